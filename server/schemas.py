"""The wire: what a request may hold and what a reply holds. Every field is checked before any work is done.

Knows no room's insides; which experts and grammars exist is decided later, by those that own them. Unknown
fields are refused, numbers are finite and bounded, and nothing is converted from one type to another.
"""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from engine.request import FinishReason
from server.grammar_fields import GrammarField, GrammarForm
from server.message_fields import Message, ToolCall, ToolFields
from server.wire import MAX_LOGPROBS, MAX_TOKENS, Experts, SamplingFields, TokenId, Wire


class GenerateRequest(SamplingFields, ToolFields):
    """A `POST /generate` body, and what every other form of a request is brought to."""

    model_config = ConfigDict(extra="forbid")

    prompt: Annotated[str, Field(min_length=1)] | Annotated[list[TokenId], Field(min_length=1)] | None = Field(
        default=None, description="One user message, or token ids, which are taken as they are."
    )
    raw: bool = Field(default=False, description="Go on with the prompt as it is, without the base's chat template.")
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=256)
    experts: Experts = Field(
        default="auto",
        description='"auto" lets the router choose; [] is the base model; else names, or names with weights.',
    )
    max_experts: int = Field(default=1, ge=1, le=10, description="How many experts the router may mix.")
    grammar: GrammarField | None = Field(
        default="auto",
        description='"auto" is the expert\'s own; null is none; else a library name or a grammar of your own.',
    )
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    logprobs: int | None = Field(
        default=None, ge=0, le=MAX_LOGPROBS, description="Tell each token's log-probability, and those of so many more."
    )
    stream: bool = False
    timeout: float | None = Field(
        default=None, gt=0, le=86_400, description="Seconds after which the request is ended with a 504."
    )
    enable_thinking: bool = Field(
        default=False,
        description="Let the model think before it answers. A grammar holds for the answer alone.",
    )
    thinking_budget: int | None = Field(
        default=None,
        ge=1,
        le=131_072,
        description="Tokens of thinking after which the answer begins, within max_tokens. Left out: half of these, or "
        "512 beside the expert's own limit where max_tokens is left out too.",
    )

    @model_validator(mode="after")
    def _one_kind_of_text(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("prompt_or_messages", "send either prompt or messages, not both and not none")
        if self.messages is not None and self.raw:
            raise PydanticCustomError("raw_messages", "raw goes with a prompt, not with messages")
        if self.is_raw and self.tools:
            raise PydanticCustomError("raw_tools", "tools go with messages, not with a raw prompt")
        if self.is_raw and self.enable_thinking:
            raise PydanticCustomError("raw_thinking", "enable_thinking goes with the chat template, not with raw")
        return self

    @model_validator(mode="after")
    def _one_grammar(self) -> Self:
        if self.uses_tools and self.grammar not in ("auto", None):
            raise PydanticCustomError("tools_and_grammar", "tools have a grammar of their own; send one or the other")
        return self

    @model_validator(mode="after")
    def _budget_for_thinking(self) -> Self:
        if self.thinking_budget is not None and not self.enable_thinking:
            raise PydanticCustomError("budget_without_thinking", "thinking_budget needs enable_thinking: true")
        return self

    @property
    def is_raw(self) -> bool:
        return self.raw or isinstance(self.prompt, list)

    @property
    def uses_tools(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def turns(self) -> list[Message]:
        """The messages, a prompt being one of the user's; none for token ids."""
        if self.messages is None:
            return [Message(role="user", content=self.prompt)] if isinstance(self.prompt, str) else []
        return self.messages

    @property
    def told_text(self) -> str:
        """All that the answer may be told: what system and user wrote."""
        return "\n".join(message.text for message in self.turns if message.role != "assistant")

    @property
    def user_text(self) -> str:
        """All that the user wrote: what the router reads."""
        return "\n".join(message.text for message in self.turns if message.role == "user")


class TopLogprob(Wire):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token of the answer with the model's own probability, before bias, penalties, temperature and grammar."""

    top_logprobs: list[TopLogprob]


class Answer(Wire):
    """One of the answers that a request asked for."""

    index: int
    text: str
    thinking: str | None = None
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] | None = None
    tool_calls: list[ToolCall] | None = None
    problems: list[str] | None = None


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
    thinking_tokens: int = 0
    """Of the completion's, those before the answer."""
    total_tokens: int


class Timings(Wire):
    """Milliseconds. `total_ms` and `first_token_ms` count from the moment the engine took the request."""

    queue_ms: float
    route_ms: float
    swap_ms: float
    first_token_ms: float
    total_ms: float


class Reply(Wire):
    """One answer. A stream's last event is this without the texts, which have gone before."""

    id: str
    text: str
    thinking: str | None = Field(default=None, description="What the model thought first; left out where it could not.")
    finish_reason: FinishReason
    experts: list[ExpertUsed]
    routing: Routing
    usage: Usage
    timings: Timings
    logprobs: list[TokenLogprob] | None = None
    tool_calls: list[ToolCall] | None = None
    problems: list[str] | None = None
    """What an answer that was to satisfy a JSON schema still lacks: it was cut off."""
    answers: list[Answer] | None = None
    """All of them, where a request asked for several; the fields above are then the first one's."""

    @property
    def each(self) -> list[Answer]:
        """All answers, also where there is one."""
        return self.answers or [
            Answer(
                index=0,
                text=self.text,
                thinking=self.thinking,
                finish_reason=self.finish_reason,
                logprobs=self.logprobs,
                tool_calls=self.tool_calls,
                problems=self.problems,
            )
        ]


class TextChunk(Wire):
    """One piece of a streamed answer; of several, the one with this index."""

    text: str
    index: int | None = None
    logprobs: list[TokenLogprob] | None = None


class ThinkingChunk(Wire):
    """One piece of what the model thinks before it answers; of several answers, before the one with this index."""

    thinking: str
    index: int | None = None


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
    forms: list[GrammarForm]


class Status(Wire):
    status: str
