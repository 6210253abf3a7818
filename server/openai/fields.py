"""What the bodies of OpenAI's forms share: names of models, fields that are passed over, fields that are refused.

A field that no one here knows is passed over too, as other servers do; the application counts how often.
"""

from collections.abc import Mapping
from typing import ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from server.errors import RequestRefused
from server.grammar_fields import GrammarField
from server.openai.formats import GrammarFields
from server.openai.naming import experts_of
from server.schemas import GenerateRequest
from server.wire import MAX_TOKENS, ExpertName, Experts, SamplingFields

_NOTHING: Final[tuple[object, ...]] = (None, [], {}, "")
_REFUSED: Final[Mapping[str, tuple[object, ...]]] = {
    "add_generation_prompt": (True,),
    "audio": (),
    "chat_template": (),
    "continue_final_message": (False,),
    "documents": (),
    "function_call": ("none", "auto"),
    "functions": (),
    "modalities": (["text"],),
    "prompt_logprobs": (),
    "skip_special_tokens": (True,),
    "suffix": (),
    "truncate_prompt_tokens": (),
    "use_beam_search": (False,),
    "web_search_options": (),
}
"""Fields that would change the answer and are not served, each with the values that change nothing."""
_PASSED_OVER: Final = frozenset(
    "metadata store user service_tier prediction priority request_id safety_identifier prompt_cache_key "
    "prompt_cache_retention verbosity reasoning_effort spaces_between_special_tokens detokenize return_token_ids "
    "length_penalty early_stopping".split()
)
"""Known, and without effect on the answer's text here."""


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    include_usage: bool | None = Field(default=None, description="End with a chunk that counts tokens.")
    continuous_usage_stats: bool | None = Field(default=None, description="Count tokens in every chunk.")


class TemplateFields(BaseModel):
    """The only variables of the base's template that a request may set."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    enable_thinking: bool | None = None


class OpenAIFields(SamplingFields, GrammarFields):
    """To be inherited. `model`, and what Hotseat adds."""

    model_config = ConfigDict(extra="allow")
    ignored: ClassVar[frozenset[str]] = _PASSED_OVER

    model: str = Field(default="auto", max_length=256, description="The base, 'auto', an expert, or 'base:expert'.")
    experts: Experts | None = Field(default=None, description="Instead of an expert in `model`: several, with weights.")
    weights: dict[ExpertName, float] | None = Field(default=None, max_length=10, description="By expert, its weight.")
    max_experts: int | None = Field(default=None, ge=1, le=10, description="How many experts the router may mix.")
    max_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    timeout: float | None = Field(
        default=None, gt=0, le=86_400, description="Seconds after which the request is ended with a 504."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="after")
    def _nothing_refused(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            allowed = _REFUSED.get(name)
            if allowed is not None and value not in _NOTHING and value not in allowed:
                raise PydanticCustomError("field_unsupported", f"{name!r} is not supported")
        if self.stream_options is not None and self.stream_options.include_usage and not self.stream:
            raise PydanticCustomError("stream_options_unused", 'stream_options goes with "stream": true')
        return self

    @property
    def unknown_fields(self) -> frozenset[str]:
        return frozenset(self.model_extra or ()) - self.ignored - frozenset(_REFUSED)

    @property
    def has_usage_chunk(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def counts_always(self) -> bool:
        return bool(self.has_usage_chunk and self.stream_options and self.stream_options.continuous_usage_stats)

    def request(self, base: str, grammar: GrammarField | None, **fields: object) -> GenerateRequest:
        """The request of these fields and the form's own. Raises ModelNotFound and RequestRefused."""
        translated = {
            **self.sampling(),
            **{name: value for name, value in fields.items() if value is not None},
            "experts": self._weighted(experts_of(self.model, base)),
            "max_experts": self.max_experts or 1,
            "grammar": grammar,
            "stream": bool(self.stream),
            "timeout": self.timeout,
        }
        try:
            return GenerateRequest.model_validate(translated)
        except ValidationError as faults:
            raise RequestRefused.of(faults) from None

    def _weighted(self, named: Experts) -> object:
        """The experts, those of `model` where the field names none, with their weights."""
        experts = named if self.experts is None or named not in ("auto", []) else self.experts
        if experts == "auto" or not self.weights:
            return experts
        return [
            {"name": expert, "weight": self.weights.get(expert, 1.0)} if isinstance(expert, str) else expert
            for expert in experts
        ]
