"""What all bodies have in common: how strictly they are read, and the fields that say how tokens are drawn.

Leaf module of the wire. A field that is null or left out takes the expert's default, then the server's.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

MAX_ANSWERS = 8
MAX_LOGPROBS = 20
MAX_STOPS = 8
MAX_TOKENS = 131_072
_INT64 = 2**63

ExpertName = Annotated[str, Field(min_length=1, max_length=64)]
StopString = Annotated[str, Field(min_length=1, max_length=64)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]


class Wire(BaseModel):
    """Strict, closed and finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class ExpertChoice(Wire):
    name: ExpertName
    weight: float = Field(default=1.0, gt=0, le=4)


def _ten_distinct(value: Literal["auto"] | list[str | ExpertChoice]) -> Literal["auto"] | list[str | ExpertChoice]:
    if value == "auto":
        return value
    names = [choice if isinstance(choice, str) else choice.name for choice in value]
    if len(names) > 10:
        raise PydanticCustomError("too_many_experts", f"{len(names)} experts; the limit is 10")
    if len(set(names)) < len(names):
        raise PydanticCustomError("repeated_expert", "the same expert is named twice")
    return value


def _no_bare_name(value: object) -> object:
    """Said before the union's members each say that it is not theirs."""
    if isinstance(value, str) and value != "auto":
        raise PydanticCustomError("experts_type", 'send a list of names, or "auto"')
    return value


def _few_stops(value: object) -> object:
    if isinstance(value, list) and len(value) > MAX_STOPS:
        raise PydanticCustomError("too_many_stops", f"{len(value)} stop strings; the limit is {MAX_STOPS}")
    return value


Experts = Annotated[
    Literal["auto"] | list[ExpertName | ExpertChoice], AfterValidator(_ten_distinct), BeforeValidator(_no_bare_name)
]
Stops = Annotated[
    StopString | Annotated[list[StopString], Field(max_length=MAX_STOPS)] | None, BeforeValidator(_few_stops)
]


class SamplingFields(Wire):
    """How tokens are drawn and where an answer ends; every number is bounded before it reaches the engine."""

    temperature: float | None = Field(default=None, ge=0, le=5, description="0 takes the likeliest token.")
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1, le=1_000_000, description="0 and -1 are no limit.")
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, ge=0.1, le=10)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: (
        dict[Annotated[str, Field(pattern=r"^[0-9]{1,7}$")], Annotated[float, Field(ge=-100, le=100)]] | None
    ) = Field(default=None, max_length=1024, description="By token id, what is added to its logit.")
    seed: int | None = Field(default=None, ge=-_INT64, lt=_INT64, description="Fixes the draws.")
    n: int | None = Field(default=None, ge=1, le=MAX_ANSWERS, description="How many answers; one where left out.")
    stop: Stops = Field(default=None, description="Texts that end the answer; they are not shown.")
    stop_token_ids: list[TokenId] | None = Field(default=None, max_length=64, description="Tokens that end the answer.")
    include_stop_str_in_output: bool | None = Field(default=None, description="Show the stop string after all.")
    ignore_eos: bool | None = Field(default=None, description="Never end by the base's end token.")
    min_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS, description="No end token before so many.")
    cache_salt: str | None = Field(
        default=None, max_length=128, description="Prompts are kept for requests of the same salt alone."
    )

    @property
    def stop_strings(self) -> tuple[str, ...]:
        if self.stop is None:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    def sampling(self) -> dict[str, object]:
        """The fields of this class that were sent, by name."""
        values = {name: getattr(self, name) for name in SamplingFields.model_fields}
        return {name: value for name, value in values.items() if value is not None}
