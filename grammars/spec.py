"""What a request can ask for instead of a grammar's name, and the GBNF that each comes to.

Knows no compiler. Called by the server, which hands the text to `GrammarCompiler.compile_untrusted`: whatever is made
here contains a client's words.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from grammars import json_schema, library, prefix_tree, regex, tool_calls
from grammars.errors import GrammarInvalid, SchemaTextInvalid
from grammars.gbnf import MAX_BYTES
from grammars.rules import GrammarTooLarge, Rules

MAX_CHOICES: Final = 1_000
MAX_MADE_BYTES: Final = 256 * 1024
"""Of GBNF that is made from a request: it is longer than what it is made from."""
_KEPT: Final = 64  # conversions: a service sends the same few schemas again and again


@dataclass(frozen=True, slots=True)
class Gbnf:
    text: str
    root: str = "root"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Exactly one of these texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON values that satisfy this schema, itself JSON text: the order of its properties is that of the answer's."""

    text: str


@dataclass(frozen=True, slots=True)
class Pattern:
    """Texts that the regular expression matches as a whole."""

    regex: str


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A library grammar that knows only the names of a schema: CREATE TABLE lines, or a graph's patterns."""

    library: str
    schema: str


@dataclass(frozen=True, slots=True)
class NarrowedByPrompt:
    """The same, with the schema that stands in a prompt."""

    library: str
    prompt: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Calls of functions, perhaps after free text: see `tool_calls`."""

    functions: tuple[tuple[str, str], ...]
    """(name, JSON schema of the arguments as text)."""
    has_text: bool
    max_calls: int = tool_calls.MAX_CALLS


Spec = Gbnf | OneOf | JsonSchema | Pattern | Narrowed | NarrowedByPrompt | ToolCalls


@dataclass(frozen=True, slots=True)
class Source:
    """A client's grammar as text, and the size that it may have."""

    gbnf: str
    root: str = "root"
    max_bytes: int = MAX_BYTES
    is_searched: bool = True
    """For texts that llama.cpp explodes on. A library grammar is compiled without, and narrowed to a schema it only has
    other names, each a literal of a prefix tree; a test holds builds against the search."""


def source(spec: Spec) -> Source:
    """Raises GrammarInvalid, SchemaUnsupported, RegexUnsupported, GrammarUnknown or SchemaTextInvalid.

    GBNF itself is not looked at yet.
    """
    match spec:
        case Gbnf(text, root):
            return Source(text, root)
        case NarrowedByPrompt(name, prompt):
            spec = Narrowed(name, _schema_in(name, prompt))
        case ToolCalls():
            return Source(_made(spec), tool_calls.ROOT, MAX_MADE_BYTES)
    return Source(_made(spec), max_bytes=MAX_MADE_BYTES, is_searched=not isinstance(spec, Narrowed))


@lru_cache(maxsize=_KEPT)
def _made(spec: OneOf | JsonSchema | Pattern | Narrowed | ToolCalls) -> str:
    match spec:
        case OneOf(texts):
            return one_of(texts)
        case JsonSchema(text):
            return json_schema.to_gbnf(json.loads(text))
        case Pattern(pattern):
            return regex.to_gbnf(pattern)
        case Narrowed(name, schema):
            return library.build(name, schema)
        case ToolCalls(functions, has_text, max_calls):
            return tool_calls.to_gbnf(functions, has_text, max_calls)


def _schema_in(name: str, prompt: str) -> str:
    if not library.find(name).takes_schema:
        raise SchemaTextInvalid(1, f"the grammar {name!r} takes no schema")
    if (schema := library.find_schema(name, prompt)) is None:
        raise SchemaTextInvalid(1, f"the prompt holds none that the grammar {name!r} could take")
    return schema


def one_of(texts: Iterable[str]) -> str:
    """GBNF of a choice. Raises GrammarInvalid."""
    options = set(texts)
    if not 1 <= len(options) <= MAX_CHOICES or "" in options:
        raise GrammarInvalid(f"{len(options):,} choices; there must be 1 to {MAX_CHOICES:,}, and none empty")
    for char in set().union(*options):
        if char == "\0" or "\ud800" <= char <= "\udfff":
            raise GrammarInvalid(f"a choice holds U+{ord(char):04X}, which no answer can hold")
    rules = Rules()
    try:
        return rules.render(prefix_tree.write(rules, rules.reserve("root"), options))
    except GrammarTooLarge as large:
        raise GrammarInvalid(large.reason) from large
