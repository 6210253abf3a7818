"""The byte-bounded LRU with leases."""

from concurrent.futures import ThreadPoolExecutor
from random import Random
from threading import Barrier, Event

import pytest

from adapters_store.cache import AdapterCache
from adapters_store.errors import PackageInvalid, StoreFull
from adapters_store.package import HostAdapter
from tests.unit.adapters_store.packages import acquire, adapter, loader, wait_until


def never() -> HostAdapter:
    raise AssertionError("this adapter is resident and must not be loaded again")


def is_resident(cache: AdapterCache, name: str, content: str = "") -> bool:
    loads = cache.stats().loads
    acquire(cache, name, content=content).release()
    return cache.stats().loads == loads


def test_a_second_lease_is_served_from_memory() -> None:
    cache = AdapterCache(100)
    with acquire(cache, "a") as lease, cache.acquire("a", "", 10, never) as again:
        assert again.adapter is lease.adapter
    stats = cache.stats()
    assert (stats.misses, stats.hits, stats.loads, stats.evictions) == (1, 1, 1, 0)
    assert stats.resident_bytes == 10
    assert stats.load_seconds >= 0


def test_the_least_recently_used_one_goes_first() -> None:
    cache = AdapterCache(30)
    for name in "abc":
        acquire(cache, name).release()
    acquire(cache, "a").release()
    acquire(cache, "d").release()
    assert cache.stats().evictions == 1
    assert [is_resident(cache, name) for name in "acd"] == [True, True, True]
    assert not is_resident(cache, "b")


def test_a_leased_one_is_never_evicted() -> None:
    cache = AdapterCache(20)
    held = acquire(cache, "a")
    for name in "bcdef":
        acquire(cache, name).release()
    assert cache.acquire("a", "", 10, never).adapter is held.adapter


def test_if_everything_is_leased_the_newcomer_is_refused_and_nothing_is_evicted() -> None:
    cache = AdapterCache(30)
    acquire(cache, "idle").release()
    with acquire(cache, "a"), acquire(cache, "b"):
        with pytest.raises(StoreFull, match="'c' needs 20 bytes of host memory, but 20 of 30 are leased"):
            acquire(cache, "c", 20)
        assert cache.stats().evictions == 0
    acquire(cache, "c", 20).release()


def test_what_is_larger_than_the_capacity_is_refused() -> None:
    with pytest.raises(StoreFull, match="'a' needs 11 bytes of host memory, but 0 of 10 are leased"):
        acquire(AdapterCache(10), "a", 11)


def test_the_bytes_that_were_reserved_in_excess_are_given_back() -> None:
    cache = AdapterCache(30)
    cache.acquire("a", "", 30, loader("a", 10)).release()
    assert cache.stats().resident_bytes == 10


def test_releasing_twice_counts_once() -> None:
    cache = AdapterCache(10)
    first, second = acquire(cache, "a"), acquire(cache, "a")
    first.release()
    first.release()
    with pytest.raises(StoreFull):
        acquire(cache, "b")
    second.release()
    acquire(cache, "b").release()


def test_another_content_replaces_the_old_one_while_its_lease_keeps_it() -> None:
    cache = AdapterCache(30)
    old = acquire(cache, "a", content="1")
    new = acquire(cache, "a", content="2")
    assert (old.adapter.generation, new.adapter.generation) == ("a1", "a2")
    assert cache.stats().resident_bytes == 20
    old.release()
    assert cache.stats().resident_bytes == 10
    assert cache.acquire("a", "2", 10, never).adapter is new.adapter


def test_an_old_content_that_nobody_holds_makes_room_at_once() -> None:
    cache = AdapterCache(10)
    acquire(cache, "a", content="1").release()
    acquire(cache, "a", content="2").release()
    assert cache.stats().resident_bytes == 10


def test_a_failed_load_leaves_no_trace_and_can_be_repeated() -> None:
    cache = AdapterCache(10)

    def fail() -> HostAdapter:
        raise PackageInvalid("a", "it is broken")

    with pytest.raises(PackageInvalid, match="it is broken"):
        cache.acquire("a", "", 10, fail)
    assert cache.stats().resident_bytes == 0
    assert cache.stats().loads == 0
    acquire(cache, "a").release()


def test_ten_who_ask_at_once_share_one_load() -> None:
    cache, everybody, is_allowed = AdapterCache(10), Barrier(11), Event()

    def slow() -> HostAdapter:
        assert is_allowed.wait(5)
        return adapter("a", 10)

    def ask() -> HostAdapter:
        everybody.wait(5)
        with cache.acquire("a", "", 10, slow) as lease:
            return lease.adapter

    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(ask) for _ in range(10)]
        everybody.wait(5)
        wait_until(lambda: cache.stats().misses == 10)
        is_allowed.set()
        assert len({id(answer.result(5)) for answer in answers}) == 1
    assert cache.stats().loads == 1
    assert cache.stats().hits == 0


@pytest.mark.parametrize("fault", [PackageInvalid("a", "it is broken"), MemoryError("too large")])
def test_whoever_waits_for_a_load_that_fails_is_told(fault: BaseException) -> None:
    cache, is_allowed = AdapterCache(10), Event()

    def fail() -> HostAdapter:
        assert is_allowed.wait(5)
        raise fault

    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(cache.acquire, "a", "", 10, fail) for _ in range(3)]
        wait_until(lambda: cache.stats().misses == 3)
        is_allowed.set()
        assert [answer.exception(5) for answer in answers] == [fault] * 3
    assert cache.stats().resident_bytes == 0


def test_loading_one_does_not_hold_up_another() -> None:
    cache, is_allowed = AdapterCache(20), Event()

    def slow() -> HostAdapter:
        assert is_allowed.wait(5)
        return adapter("a", 10)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.acquire, "a", "", 10, slow)
        wait_until(lambda: cache.stats().misses == 1)
        acquire(cache, "b").release()
        is_allowed.set()
        waiting.result(5).release()


def test_the_bound_holds_under_fetches_from_many_threads() -> None:
    cache, capacity, observed = AdapterCache(50), 50, []

    def work(seed: int) -> int:
        random, refused = Random(seed), 0
        for _ in range(150):
            number = random.randrange(8)
            try:
                with acquire(cache, str(number), 5 + 3 * number, content=str(random.randrange(2))) as lease:
                    assert lease.adapter.generation.startswith(str(number))
                    observed.append(cache.stats().resident_bytes)
            except StoreFull:
                refused += 1
        return refused

    with ThreadPoolExecutor(6) as pool:
        refused = sum(pool.map(work, range(6)))
    assert refused < 6 * 150
    assert 0 < max(observed) <= capacity
    assert cache.stats().hits + cache.stats().misses + refused == 6 * 150
