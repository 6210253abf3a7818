"""Which lowered adapters stay in host memory: least recently used out first, bounded by bytes.

What is in use or pinned stays whatever the bound. Not thread-safe: the host tier calls it under its lock.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import ReferenceType, WeakSet, ref

from engine.model.delta import Delta
from engine.packing import StoredDelta
from engine.tier_stats import Holding, Source

RECENT_S = 60.0
"""How long after its last use a wish leaves an adapter alone."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Fetched:
    """An adapter for one request, which keeps it in host memory as long as it holds this."""

    delta: Delta
    source: Source
    """Where it was when the request asked."""
    seconds: float
    """From the asking."""


@dataclass(slots=True, eq=False)
class _Entry:
    stored: StoredDelta
    delta: "ReferenceType[Delta]"
    kept: Delta | None
    """Of a plain storage, whose tensors are those that a slot takes; other storage is unpacked for who uses it."""
    last_used: float | None
    """None for a wish that nobody has asked for yet."""
    users: "WeakSet[Fetched]" = field(default_factory=WeakSet)


class HeldDeltas:
    def __init__(self, capacity_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity_bytes, self._clock = capacity_bytes, clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self.num_bytes = self.num_evictions = 0
        self.dropped_bytes = 0
        """In all; the allocator may not have given them back to the system."""
        self.pinned: frozenset[str] = frozenset()
        """Names of experts that are never evicted; unloaded they may be."""

    def __contains__(self, generation: str) -> bool:
        return generation in self._entries

    @property
    def holdings(self) -> tuple[Holding, ...]:
        """Least recently used first."""
        return tuple(Holding(g, entry.stored.name, entry.stored.num_bytes) for g, entry in self._entries.items())

    def stored(self, generation: str) -> StoredDelta | None:
        entry = self._entries.get(generation)
        return entry.stored if entry else None

    def touch(self, generation: str) -> Delta | None:
        """It was asked for just now. What a slot takes, where that is at hand."""
        entry = self._entries[generation]
        entry.last_used = self._clock()
        self._entries.move_to_end(generation)
        return entry.delta()

    def add_user(self, fetched: Fetched) -> None:
        if entry := self._entries.get(fetched.delta.generation):
            entry.users.add(fetched)

    def keep(self, stored: StoredDelta, delta: Delta, is_wanted: bool) -> None:
        """Make room for it and hold it; a wish comes in at the cold end, or not at all."""
        generation = stored.generation
        if entry := self._entries.get(generation):
            entry.delta = ref(delta)
            return
        if not is_wanted and not self._make_room_for_a_wish(stored.num_bytes):
            return
        kept = delta if stored.storage == "plain" else None
        self._entries[generation] = _Entry(stored, ref(delta), kept, self._clock() if is_wanted else None)
        self._entries.move_to_end(generation, last=is_wanted)
        self.num_bytes += stored.num_bytes
        self._evict([other for other in self._idle() if other != generation], 0)

    def drop(self, generation: str) -> bool:
        """Was it there?"""
        if (entry := self._entries.pop(generation, None)) is None:
            return False
        self.num_bytes -= entry.stored.num_bytes
        self.dropped_bytes += entry.stored.num_bytes
        return True

    def _idle(self) -> list[str]:
        return [g for g, e in self._entries.items() if not e.users and e.stored.name not in self.pinned]

    def _make_room_for_a_wish(self, num_bytes: int) -> bool:
        """Only what nobody uses or used lately goes; nothing does where that would not be enough."""
        before = self._clock() - RECENT_S
        used = {generation: self._entries[generation].last_used for generation in self._idle()}
        idle = [generation for generation, last in used.items() if last is None or last < before]
        excess = self.num_bytes + num_bytes - self.capacity_bytes
        if excess > sum(self._entries[generation].stored.num_bytes for generation in idle):
            return False
        self._evict(idle, num_bytes)
        return True

    def _evict(self, idle: list[str], num_bytes: int) -> None:
        """As many of them, in this order, as make room for so many bytes more."""
        for generation in idle:
            if self.num_bytes + num_bytes <= self.capacity_bytes:
                break
            self.num_evictions += self.drop(generation)
