"""Which adapter sits in which device slot: pins, least-recently-used eviction. Integers and names only."""

from collections import OrderedDict
from collections.abc import Iterable


class AdapterSlots:
    """A slot holds one generation. A pinned one is in use by a running sequence and is never evicted."""

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._slot_of: OrderedDict[str, int] = OrderedDict()  # least recently used first
        self._pins: dict[str, int] = {}
        self._free = list(range(num_slots - 1, -1, -1))
        self._retired: set[str] = set()
        self.hits = self.misses = self.evictions = 0
        """Of adapters that a sequence was admitted with: sitting in a slot already, or not."""

    @property
    def resident(self) -> tuple[str, ...]:
        return tuple(self._slot_of)

    def slot_of(self, generation: str) -> int:
        return self._slot_of[generation]

    def holds(self, generations: Iterable[str]) -> bool:
        """Whether they all sit in slots already."""
        return all(generation in self._slot_of for generation in generations)

    def can_acquire(self, generations: Iterable[str]) -> bool:
        """Whether there are slots for all of them beside what is pinned."""
        return len({*self._pins, *generations}) <= self.num_slots

    def acquire(self, generations: Iterable[str]) -> list[tuple[int, str]]:
        """Pin them all and return the (slot, generation) pairs to upload; `can_acquire` has to hold."""
        wanted = list(dict.fromkeys(generations))
        idle = [held for held in self._slot_of if not self._pins.get(held) and held not in wanted]
        for generation in wanted:
            self._pins[generation] = self._pins.get(generation, 0) + 1
        uploads = []
        for generation in wanted:
            if generation not in self._slot_of:
                self.evictions += not self._free
                slot = self._free.pop() if self._free else self._evict(idle.pop(0))
                self._slot_of[generation] = slot
                uploads.append((slot, generation))
            self._slot_of.move_to_end(generation)
        self.hits, self.misses = self.hits + len(wanted) - len(uploads), self.misses + len(uploads)
        return uploads

    def release(self, generations: Iterable[str]) -> None:
        """Take back one pin of each; the adapters stay resident until their slot is needed."""
        for generation in dict.fromkeys(generations):
            self._pins[generation] -= 1
            if not self._pins[generation]:
                del self._pins[generation]

    def retire(self, generation: str) -> None:
        """Free its slot as soon as nobody uses it; `take_freed` says when."""
        if generation in self._slot_of:
            self._retired.add(generation)

    def take_freed(self) -> list[int]:
        """Slots of retired adapters that nobody uses any more; they are free from now on."""
        ended = [generation for generation in self._retired if generation not in self._pins]
        freed = [self._slot_of.pop(generation) for generation in ended]
        self._retired.difference_update(ended)
        self._free += freed
        return freed

    def _evict(self, generation: str) -> int:
        self._retired.discard(generation)
        return self._slot_of.pop(generation)

    def check_integrity(self) -> None:
        assert sorted([*self._free, *self._slot_of.values()]) == list(range(self.num_slots)), (
            "a slot is lost or held twice"
        )
        assert set(self._pins) <= set(self._slot_of), "an evicted adapter is pinned"
        assert self._retired <= set(self._slot_of), "an evicted adapter waits to be unloaded"
