"""A request's mutable state inside the engine; only the scheduler changes it."""

import time
from array import array
from dataclasses import dataclass, field

from engine.request import FinishReason, SamplingParams, TextPart, Timings, TokenConstraint, TokenMatcher
from engine.thinking import Taken, ThinkingGate


@dataclass(frozen=True, slots=True)
class Part:
    """One expert's part in a mixture: which content, how much of it, how many virtual tokens it brings."""

    generation: str
    name: str
    weight: float
    num_virtual: int


@dataclass(slots=True, eq=False)
class Sequence:
    id: int
    prompt_ids: tuple[int, ...]
    parts: tuple[Part, ...]
    """In name order, which is also the order of their virtual tokens."""
    sampling: SamplingParams
    matcher: TokenMatcher | None
    max_length: int
    """Positions at which the sequence ends by length."""
    salt: str = ""
    """Sequences with different salts never share a block."""
    deadline_s: float | None = None
    """Seconds from submission."""
    gate: ThinkingGate | None = None
    """In front of the grammar where the model may think first."""
    submitted: float = field(default_factory=time.monotonic)
    output_ids: list[int] = field(default_factory=list)
    distinct_prompt_ids: "array[int]" = field(init=False)
    num_computed: int = 0
    """Positions whose keys and values are in the cache."""
    block_table: list[int] = field(default_factory=list)
    block_hashes: list[bytes] = field(default_factory=list)
    """Of its full blocks, as far as somebody asked for them."""
    num_cached: int = 0
    """Positions of the prompt that were found in the prefix cache when it was first read."""
    num_preemptions: int = 0
    admitted: float = 0.0
    first_token: float = 0.0
    swap_seconds: float = 0.0
    finish: FinishReason | None = None

    def __post_init__(self) -> None:
        self.distinct_prompt_ids = array("q", set(self.prompt_ids))

    @property
    def num_virtual(self) -> int:
        return sum(part.num_virtual for part in self.parts)

    @property
    def num_prompt(self) -> int:
        """Positions of the prompt, virtual ones too."""
        return self.num_virtual + len(self.prompt_ids)

    @property
    def length(self) -> int:
        return self.num_prompt + len(self.output_ids)

    @property
    def generations(self) -> tuple[str, ...]:
        return tuple(part.generation for part in self.parts)

    @property
    def constraint(self) -> TokenConstraint | None:
        """What the next draw is held to."""
        return self.gate.constraint if self.gate else self.matcher

    @property
    def is_thinking(self) -> bool:
        return self.gate is not None and self.gate.is_thinking

    @property
    def is_answering(self) -> bool:
        """What comes next is the answer's, and the grammar holds for it."""
        return self.gate is None or self.gate.is_answering

    def take(self, token: int, is_end: bool) -> list[Taken]:
        """What becomes of a drawn token; see `ThinkingGate.take`."""
        if self.gate is None:
            return [(token, TextPart.ANSWER)]
        return self.gate.take(token, is_end, self.output_ids[-1] if self.output_ids else None)

    def is_late(self, now: float) -> bool:
        return self.deadline_s is not None and now >= self.submitted + self.deadline_s

    def virtual_tokens(self, start: int, end: int) -> list[tuple[Part, int]]:
        """The virtual tokens among the positions from `start` to `end`, as (part, index in its soft prompt)."""
        if start >= self.num_virtual:
            return []
        return [(part, index) for part in self.parts for index in range(part.num_virtual)][start:end]

    def real_tokens(self, start: int, end: int) -> list[int]:
        """The ids of prompt and answer among the positions from `start` to `end`."""
        shift, num_prompt = self.num_virtual, len(self.prompt_ids)
        first, last = max(0, start - shift), max(0, end - shift)
        answer = self.output_ids[max(0, first - num_prompt) : max(0, last - num_prompt)]
        return [*self.prompt_ids[first:last], *answer]

    def timings(self, now: float) -> Timings:
        admitted, first = self.admitted or now, self.first_token or now
        return Timings(
            queue_ms=(admitted - self.submitted) * 1e3,
            swap_ms=self.swap_seconds * 1e3,
            first_token_ms=(first - self.submitted) * 1e3,
            total_ms=(now - self.submitted) * 1e3,
        )
