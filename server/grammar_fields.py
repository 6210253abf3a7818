"""The grammars that a request may bring: their forms on the wire and bounds. `grammars` judges the texts."""

import json
import re
from typing import Annotated

from pydantic import Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from grammars.create_table import MAX_CHARS
from grammars.gbnf import MAX_BYTES
from grammars.json_schema.document import MAX_BYTES as MAX_SCHEMA_BYTES
from grammars.regex import MAX_PATTERN
from grammars.spec import MAX_CHOICES
from server.wire import Wire

_LIBRARY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NO_GRAMMAR = (
    'send "auto" (the expert\'s), null (none), the name of a library grammar, or an object: {"gbnf": "..."}, '
    '{"choice": ["..."]}, {"json_schema": {...}}, {"regex": "..."} or {"library": "sql", "schema": "..."}'
)


class GbnfGrammar(Wire):
    """A grammar in llama.cpp's GBNF. It is checked and tried before it is used; a refusal names line and column."""

    gbnf: str = Field(min_length=1, max_length=MAX_BYTES, examples=['root ::= "yes" | "no"'])
    root: str = Field(default="root", pattern=r"^[A-Za-z0-9-]{1,64}$", description="The rule to begin with.")


class ChoiceGrammar(Wire):
    """The answer is exactly one of these texts."""

    choice: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(min_length=1, max_length=MAX_CHOICES)

    @field_validator("choice")
    @classmethod
    def _short_altogether(cls, value: list[str]) -> list[str]:
        if (size := sum(map(len, value))) > MAX_BYTES:
            raise PydanticCustomError("choice_too_long", f"{size:,} characters in all; the limit is {MAX_BYTES:,}")
        return value


class SchemaGrammar(Wire):
    """The answer is JSON of this schema (draft 2020-12 or 7); what can not be enforced is refused by name."""

    json_schema: dict[str, object] | bool

    @field_validator("json_schema")
    @classmethod
    def _bounded(cls, value: dict[str, object] | bool) -> dict[str, object] | bool:
        try:
            size = len(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
        except (ValueError, RecursionError):
            raise PydanticCustomError("schema_no_json", "it is nested too deeply, or holds what is no JSON") from None
        if size > MAX_SCHEMA_BYTES:
            raise PydanticCustomError("schema_too_long", f"{size:,} bytes; the limit is {MAX_SCHEMA_BYTES:,}")
        return value

    @property
    def text(self) -> str:
        return json.dumps(self.json_schema, ensure_ascii=False)


class RegexGrammar(Wire):
    """The answer as a whole matches this regular expression, in the common part of ECMA-262's and Python's."""

    regex: str = Field(min_length=1, max_length=MAX_PATTERN, examples=["[A-Z]{2}-[0-9]{4}"])


class NarrowedGrammar(Wire):
    """A library grammar that admits only the names of a schema: `sql` takes CREATE TABLE lines, `cypher` a graph's
    patterns. Send the schema, or `from_prompt` where it stands in the prompt or the messages."""

    library: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", examples=["sql"])
    schema_text: str | None = Field(default=None, alias="schema", min_length=1, max_length=MAX_CHARS)
    from_prompt: bool = False

    @model_validator(mode="after")
    def _one_schema(self) -> "NarrowedGrammar":
        if (self.schema_text is None) != self.from_prompt:
            raise PydanticCustomError("schema_or_prompt", 'send either "schema" or "from_prompt": true')
        return self


_GRAMMAR_KINDS = {
    "gbnf": "a GBNF grammar",
    "choice": "a choice",
    "json_schema": "a JSON schema",
    "regex": "a regular expression",
    "library": "a library grammar",
}


def _grammar_kind(value: object) -> str | None:
    """Which of the grammar's forms was meant, so that a complaint is about that one alone."""
    if isinstance(value, str):
        return "a name" if _LIBRARY_NAME.fullmatch(value) else None
    if isinstance(value, dict):
        return next((kind for key, kind in _GRAMMAR_KINDS.items() if key in value), None)
    return next((kind for key, kind in _GRAMMAR_KINDS.items() if hasattr(value, key)), None)


GrammarField = Annotated[
    Annotated[str, Tag("a name")]
    | Annotated[GbnfGrammar, Tag("a GBNF grammar")]
    | Annotated[ChoiceGrammar, Tag("a choice")]
    | Annotated[SchemaGrammar, Tag("a JSON schema")]
    | Annotated[RegexGrammar, Tag("a regular expression")]
    | Annotated[NarrowedGrammar, Tag("a library grammar")],
    Discriminator(_grammar_kind, custom_error_type="grammar_form", custom_error_message=_NO_GRAMMAR),
]


class GrammarForm(Wire):
    """A grammar that is made for the request that brings it."""

    name: str
    description: str
    example: dict[str, object] = Field(description="As the field `grammar` of a request takes it.")


FORMS = (
    GrammarForm(
        name="choice",
        description="The answer is exactly one of these texts.",
        example={"choice": ["yes", "no", "I do not know"]},
    ),
    GrammarForm(
        name="regex",
        description="The answer as a whole matches a regular expression.",
        example={"regex": "[A-Z]{2}-[0-9]{4}"},
    ),
    GrammarForm(
        name="json_schema",
        description="The answer is JSON of a schema, draft 2020-12 or 7.",
        example={"json_schema": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}},
    ),
    GrammarForm(
        name="gbnf",
        description="The answer is a sentence of a grammar in llama.cpp's GBNF.",
        example={"gbnf": 'root ::= "yes" | "no"'},
    ),
    GrammarForm(
        name="library",
        description="The answer is a sentence of a library grammar, with the names of a schema alone.",
        example={"library": "sql", "schema": "CREATE TABLE singers (name TEXT, age INT);"},
    ),
)
