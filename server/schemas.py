"""The wire: what a request may hold and what a reply holds. Every field is checked before any work is done.

Knows no room's insides; which experts and grammars exist is decided later, by those that own them. Unknown
fields are refused, numbers are finite and bounded, and nothing is converted from one type to another.
"""

import json
import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from engine.request import FinishReason
from grammars.create_table import MAX_CHARS
from grammars.gbnf import MAX_BYTES
from grammars.json_schema.document import MAX_BYTES as MAX_SCHEMA_BYTES
from grammars.regex import MAX_PATTERN
from grammars.spec import MAX_CHOICES

_LIBRARY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NO_GRAMMAR = (
    'send "auto" (the expert\'s), null (none), the name of a library grammar, or an object: {"gbnf": "..."}, '
    '{"choice": ["..."]}, {"json_schema": {...}}, {"regex": "..."} or {"library": "sql", "schema": "..."}'
)

ExpertName = Annotated[str, Field(min_length=1, max_length=64)]
StopString = Annotated[str, Field(min_length=1, max_length=64)]


class Wire(BaseModel):
    """Strict, closed and finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Message(Wire):
    role: Literal["system", "user", "assistant"]
    content: str


class ExpertChoice(Wire):
    name: ExpertName
    weight: float = Field(default=1.0, gt=0, le=4)


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

    json_schema: dict[str, object]

    @field_validator("json_schema")
    @classmethod
    def _bounded(cls, value: dict[str, object]) -> dict[str, object]:
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


class GenerateRequest(Wire):
    """A `POST /generate` body. A sampling field left out takes the expert's default, then the server's."""

    prompt: str | None = Field(default=None, min_length=1, description="One user message.")
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=256)
    experts: Literal["auto"] | list[ExpertName | ExpertChoice] = Field(
        default="auto",
        description='"auto" lets the router choose; [] is the base model; else names, or names with weights.',
    )
    max_experts: int = Field(default=1, ge=1, le=10, description="How many experts the router may mix.")
    grammar: GrammarField | None = Field(
        default="auto",
        description='"auto" is the expert\'s own; null is none; else a library name or a grammar of your own.',
    )
    max_tokens: int | None = Field(default=None, ge=1, le=131_072)
    temperature: float | None = Field(default=None, ge=0, le=5)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000, description="0 is no limit.")
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=0.1, le=10)
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    stop: StopString | Annotated[list[StopString], Field(max_length=8)] = Field(default_factory=list)
    stream: bool = False

    @field_validator("experts")
    @classmethod
    def _ten_distinct_experts(
        cls, value: Literal["auto"] | list[str | ExpertChoice]
    ) -> Literal["auto"] | list[str | ExpertChoice]:
        if value == "auto":
            return value
        names = [choice if isinstance(choice, str) else choice.name for choice in value]
        if len(names) > 10:
            raise PydanticCustomError("too_many_experts", f"{len(names)} experts; the limit is 10")
        if len(set(names)) < len(names):
            raise PydanticCustomError("repeated_expert", "the same expert is named twice")
        return value

    @model_validator(mode="after")
    def _one_kind_of_text(self) -> "GenerateRequest":
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("prompt_or_messages", "send either prompt or messages, not both and not none")
        return self

    @property
    def conversation(self) -> tuple[tuple[str, str], ...]:
        """The text as (role, content), a prompt being one user message."""
        if self.messages is None:
            return (("user", self.prompt or ""),)
        return tuple((message.role, message.content) for message in self.messages)

    @property
    def told_text(self) -> str:
        """All that the answer may be told: what system and user wrote."""
        return "\n".join(content for role, content in self.conversation if role != "assistant")

    @property
    def user_text(self) -> str:
        """All that the user wrote: what the router reads."""
        return "\n".join(content for role, content in self.conversation if role == "user")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


class ExpertUsed(Wire):
    name: str
    version: str
    kind: str
    weight: float


class Routing(Wire):
    stage: str
    reason: str
    confidence: float
    scores: dict[str, float]


class Usage(Wire):
    prompt_tokens: int
    cached_tokens: int
    """Of the prompt's, those whose keys and values were in the prefix cache."""
    completion_tokens: int
    total_tokens: int


class Timings(Wire):
    """Milliseconds. `total_ms` and `first_token_ms` count from the moment the engine took the request."""

    queue_ms: float
    route_ms: float
    swap_ms: float
    first_token_ms: float
    total_ms: float


class Reply(Wire):
    """One answer. A stream's last event is this without the text, which has gone before."""

    id: str
    text: str
    finish_reason: FinishReason
    experts: list[ExpertUsed]
    routing: Routing
    usage: Usage
    timings: Timings


class TextChunk(Wire):
    """One piece of a streamed answer."""

    text: str


class ErrorDetail(Wire):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Wire):
    error: ErrorDetail


class ExpertCard(Wire):
    name: str
    version: str
    description: str
    kind: str
    tags: list[str]
    license: str | None
    grammar: str | None
    examples: list[str]
    compatible: bool = Field(description="Made for the base that this server runs.")
    resident: bool = Field(description="In a slot on the device now.")


class BaseCard(Wire):
    name: str
    fingerprint: str
    device: str
    quantization: str


class BrokenExpert(Wire):
    name: str
    reason: str


class ExpertList(Wire):
    base: BaseCard
    experts: list[ExpertCard]
    broken: list[BrokenExpert]
    grammars: list[str]


class GrammarCard(Wire):
    name: str
    description: str
    examples: list[str]
    takes_schema: bool = Field(description="A request may narrow it to the names of a schema.")


class GrammarText(GrammarCard):
    gbnf: str


class GrammarList(Wire):
    grammars: list[GrammarCard]


class Status(Wire):
    status: str
