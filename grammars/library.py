"""The grammars that come with Hotseat, by name. The files are in `library/`; the server, the command line and the tests
call this.

NAME.gbnf is a grammar's own text. Rules that several share or that a schema replaces are in a `.rules` file, levels of
nesting are written out by `levels`, and where NAME.reserved lies beside them the grammar may use the rule `word`: an
identifier that is none of the reserved words.
"""

from functools import cache
from importlib import resources
from typing import Final

from grammars import cypher_schema, sql_schema
from grammars.catalogue import CATALOGUE, LibraryGrammar
from grammars.errors import GrammarUnknown, SchemaTextInvalid
from grammars.levels import reachable, unrolled
from grammars.words import CAMEL, LOWER, words_except

MAX_BUILT_BYTES: Final = 128 * 1024
"""Of a grammar made for a schema; one for sixty tables of fifteen columns has a quarter of it."""

_FOLDER: Final = resources.files("grammars") / "library"
_BUILDERS: Final = {"sql": sql_schema, "cypher": cypher_schema}
_LETTERS: Final = {"typescript": CAMEL}


def catalogue() -> tuple[LibraryGrammar, ...]:
    """Every grammar, in the order of the names."""
    return CATALOGUE


def names() -> tuple[str, ...]:
    return tuple(grammar.name for grammar in CATALOGUE)


def find(name: str) -> LibraryGrammar:
    """Raises GrammarUnknown."""
    for grammar in CATALOGUE:
        if grammar.name == name:
            return grammar
    raise GrammarUnknown(name, names())


@cache
def text(name: str) -> str:
    """The whole grammar as GBNF, for any schema. Raises GrammarUnknown."""
    grammar = find(name)
    return _own(name) + (unrolled(_read(grammar.rules)) if grammar.rules else "") + _words(name)


def build(name: str, schema: str) -> str:
    """The grammar that knows only the names of a schema, which stand in it as literals alone.

    Raises GrammarUnknown, or SchemaTextInvalid with the line.
    """
    if not find(name).takes_schema:
        raise SchemaTextInvalid(1, f"the grammar {name!r} takes no schema")
    gbnf = reachable(_own(name) + unrolled(_BUILDERS[name].rules(schema, reserved(name))) + _words(name))
    if (size := len(gbnf.encode())) > MAX_BUILT_BYTES:
        raise SchemaTextInvalid(1, f"the names make a grammar of {size:,} bytes; the limit is {MAX_BUILT_BYTES:,}")
    return gbnf


def find_schema(name: str, prompt: str) -> str | None:
    """The part of a prompt that `build` reads; None where there is none, or where the grammar takes no schema."""
    return _BUILDERS[name].find(prompt) if find(name).takes_schema else None


@cache
def reserved(name: str) -> frozenset[str]:
    """The words that the grammar can not have as identifiers; none where it has no such rule."""
    file = _FOLDER / f"{name}.reserved"
    return frozenset(file.read_text(encoding="utf-8").split()) if file.is_file() else frozenset()


def _own(name: str) -> str:
    return unrolled(_read(f"{name}.gbnf"))


def _words(name: str) -> str:
    return words_except("word", reserved(name), _LETTERS.get(name, LOWER)) if reserved(name) else ""


def _read(file: str) -> str:
    return (_FOLDER / file).read_text(encoding="utf-8")
