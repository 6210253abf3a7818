"""The byte-bounded LRU with leases, in any order of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from adapters_store.cache import AdapterCache, Lease
from adapters_store.errors import StoreFull
from tests.unit.adapters_store.packages import acquire, loader


class CacheMachine(RuleBasedStateMachine):
    """Any order of acquiring, releasing and replacing keeps the bound, and every lease keeps its content."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.cache = AdapterCache(40)
        self.held: list[Lease] = []

    @rule(
        target=leases,
        name=st.sampled_from("abcd"),
        content=st.sampled_from("12"),
        excess=st.integers(0, 5),
    )
    def acquire(self, name: str, content: str, excess: int) -> Lease | None:
        num_bytes = 5 * (ord(name) - ord("a") + 1)
        load = loader(name + content, num_bytes)
        try:
            lease = self.cache.acquire(name, content, num_bytes + excess, load)
        except StoreFull:
            assert sum(lease.adapter.num_bytes for lease in self.held) + num_bytes + excess > 40
            return None
        assert lease.adapter.generation == name + content
        self.held.append(lease)
        return lease

    @rule(lease=consumes(leases))
    def release(self, lease: Lease | None) -> None:
        if lease is not None:
            self.held.remove(lease)
            lease.release()

    @invariant()
    def resident_bytes_are_bounded_and_cover_what_is_leased(self) -> None:
        held = {id(lease.adapter): lease.adapter.num_bytes for lease in self.held}
        assert sum(held.values()) <= self.cache.stats().resident_bytes <= 40

    def teardown(self) -> None:
        for lease in self.held:
            lease.release()
        assert self.cache.stats().resident_bytes <= 40
        acquire(self.cache, "whole", 40).release()


CacheMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCacheMachine = CacheMachine.TestCase
