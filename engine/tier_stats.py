"""Plain counters of the tiers that an expert passes: package, lowered form on disk, host memory, device slot.

Whoever exports them turns them into metrics. A `SwapTimes` is written by several threads, so it has a lock.
"""

from bisect import bisect_left
from dataclasses import dataclass
from threading import Lock
from typing import Literal

Source = Literal["host", "disk", "package"]
"""Where a swap found its expert: lowered in host memory, lowered on disk, or as a package that had to be lowered."""
Stage = Literal["read", "verify", "lower", "copy"]

SWAP_BUCKETS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.045, 0.05, 0.055, 0.06, 0.075, 0.1, 0.2, 0.5, 1, 2, 5,
    10,
)  # fmt: skip
"""Seconds; dense around 50 ms, the longest that a swap should take."""


@dataclass(frozen=True, slots=True)
class TierStats:
    """Counters only grow; residents and bytes describe the moment."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    residents: int = 0
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Holding:
    """An adapter that a tier holds at this moment."""

    generation: str
    name: str
    num_bytes: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Observations by SWAP_BUCKETS and one more for what is above them all; not cumulative."""

    counts: tuple[int, ...] = (0,) * (len(SWAP_BUCKETS) + 1)
    seconds: float = 0.0

    def plus(self, seconds: float) -> "Histogram":
        place = bisect_left(SWAP_BUCKETS, seconds)
        counts = (*self.counts[:place], self.counts[place] + 1, *self.counts[place + 1 :])
        return Histogram(counts, self.seconds + seconds)


class SwapTimes:
    """How long swaps took, by adapter kind and source, and their stages by name."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._swaps: dict[tuple[str, Source], Histogram] = {}
        self._stages: dict[Stage, Histogram] = {}

    def count_swap(self, kind: str, source: Source, seconds: float) -> None:
        with self._lock:
            self._swaps[kind, source] = self._swaps.get((kind, source), Histogram()).plus(seconds)

    def count_stage(self, stage: Stage, seconds: float) -> None:
        with self._lock:
            self._stages[stage] = self._stages.get(stage, Histogram()).plus(seconds)

    def swaps(self) -> dict[tuple[str, Source], Histogram]:
        with self._lock:
            return dict(self._swaps)

    def stages(self) -> dict[Stage, Histogram]:
        with self._lock:
            return dict(self._stages)
