"""The engine's vocabulary: what is asked of it and what it says back. Leaf module."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from adapters_store.package import HostAdapter


class TokenConstraint(Protocol):
    """Which tokens may be drawn next."""

    def allows(self, token_id: int) -> bool: ...

    def allows_each(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]: ...

    def hot_mask(self) -> NDArray[np.bool_] | None:
        """The mask where it costs microseconds."""

    def mask(self) -> NDArray[np.bool_]:
        """What `allows` says of every logit; read only. Called from another thread while its owner waits."""


class TokenMatcher(TokenConstraint, Protocol):
    """What the engine needs of a grammar: one sequence's state, advanced by the tokens that it accepts."""

    @property
    def is_complete(self) -> bool: ...

    @property
    def must_stop(self) -> bool: ...

    def forced_tokens(self) -> Sequence[int]:
        """Tokens that must follow, as the model would spell them; maybe fewer than there are."""

    def accept(self, token_id: int) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is drawn. Temperature 0 is greedy."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps all tokens."""
    min_p: float = 0.0
    """Drops tokens less likely than this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Divides the logits above zero of all tokens seen, prompt and answer, and multiplies those below."""
    presence_penalty: float = 0.0
    """Taken off the logit of every token that the answer holds."""
    frequency_penalty: float = 0.0
    """Taken off the same logit once for every time that the answer holds the token."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token id, what is added to its logit)."""
    seed: int | None = None
    """Fixes the draws of this request, whatever else runs. None draws afresh each time."""
    max_tokens: int = 128
    min_tokens: int = 0
    """Tokens before which nothing but a grammar that is complete ends the answer."""
    stop_ids: tuple[int, ...] = ()
    """Tokens that end the answer as the end token does; they are not shown."""
    ignore_eos: bool = False
    """Never draw the base's end tokens: the answer ends by its grammar, a stop id or its length."""
    logprobs: int | None = None
    """How many of the likeliest tokens are reported beside each drawn one; None reports nothing."""


@dataclass(frozen=True, slots=True)
class Thinking:
    """How a model thinks before it answers, in ids alone."""

    open_id: int
    close_id: int
    before_close: tuple[int, ...]
    """What the engine puts before a close of its own, unless the text ends with it already."""
    after_close: tuple[int, ...]
    """What the template has between a close and the answer; the engine puts it there whoever closes."""
    budget: int
    """Tokens of thinking after which the engine closes it."""
    is_open: bool
    """The prompt ends inside of thinking. Otherwise the model may open it with the first token that it draws."""

    @property
    def longest(self) -> int:
        """Tokens before the answer at most, with those that open and close the thinking."""
        return self.budget + len(self.before_close) + len(self.after_close) + 2


@dataclass(frozen=True, slots=True)
class ExpertUse:
    """An adapter in host memory and its weight in the mixture."""

    adapter: HostAdapter
    weight: float
    fetch_seconds: float = 0.0
    """What it took to have the package; part of the time of a swap, if it comes to one."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One generation, fully resolved: ids, tensors and grammar state, no names and no text."""

    id: str
    prompt_ids: tuple[int, ...]
    experts: tuple[ExpertUse, ...] = ()
    sampling: SamplingParams = field(default_factory=SamplingParams)
    matcher: TokenMatcher | None = None
    """Owned by the engine from submission on; it closes it."""
    deadline_s: float | None = None
    """Seconds from submission after which the request ends with DeadlineExceeded, queued or running."""
    thinking: Thinking | None = None
    """Where the model may think first; the grammar then holds for what comes after."""
    salt: str = ""
    """The tenant. What one salt's requests left in the prefix cache is found by requests of the same salt alone."""


class TextPart(StrEnum):
    """Which text a token belongs to."""

    ANSWER = "answer"
    THINKING = "thinking"
    MARK = "mark"
    """Neither: it opens or closes the thinking."""


class FinishReason(StrEnum):
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds; `first_token_ms` and `total_ms` count from submission."""

    queue_ms: float
    swap_ms: float
    first_token_ms: float
    total_ms: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms of the model's own probabilities, before bias, penalties, temperature and grammar."""

    drawn: float
    top: tuple[tuple[int, float], ...]
    """(token id, logprob), likeliest first."""


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """A generated token, or the end. The token that ends a generation by itself (EOS) is not shown."""

    token_id: int | None = None
    logprobs: TokenLogprobs | None = None
    """None where the engine put the token."""
    part: TextPart = TextPart.ANSWER
    finish: FinishReason | None = None
    timings: Timings | None = None
