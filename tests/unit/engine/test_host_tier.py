"""The host tier: made once, kept while used, failures remembered, wishes last, and nobody else's threads taken."""

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adapters_store.package import HostAdapter
from engine import host_tier
from engine.config import AdapterStorage
from engine.errors import AdapterIncompatible, EngineStopped
from engine.held_deltas import RECENT_S, Fetched
from engine.host_tier import HostTier
from engine.lowered_files import FilesConfig, LoweredFiles
from engine.model.delta import Delta, LinearDelta
from engine.packing import StoredDelta, pack, unpack
from engine.tier_stats import SwapTimes
from tests.unit.engine.models import Reference


class SmallForms:
    """Makes deltas of 400 bytes, counts, and waits for `may_go`."""

    def __init__(self, storage: AdapterStorage = "plain") -> None:
        self.storage = storage
        self.count: Counter[str] = Counter()
        self.order: list[str] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def lower(self, adapter: HostAdapter) -> Delta:
        self.count[adapter.generation] += 1
        self.order.append(adapter.generation)
        assert self.may_go.wait(5)
        if adapter.generation == "broken":
            raise AdapterIncompatible("name", "it is broken")
        rows = torch.linspace(-1, 1, 50).view(1, 50)
        return Delta(adapter.generation, f"of {adapter.generation}", {"q": LinearDelta(a=rows, b=rows)})

    def pack(self, delta: Delta) -> StoredDelta:
        return pack(delta, self.storage)

    def unpack(self, stored: StoredDelta) -> Delta:
        return unpack(stored, torch.float32)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def forms() -> SmallForms:
    return SmallForms()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tier(forms: SmallForms, clock: Clock) -> Iterator[HostTier]:
    tier = HostTier(forms, 800, None, SwapTimes(), clock)
    yield tier
    tier.close()


@pytest.fixture
def adapter(references: dict[str, Reference]) -> HostAdapter:
    return references["lora"].adapter


def files_in(directory: Path, storage: AdapterStorage = "plain") -> LoweredFiles:
    return LoweredFiles(FilesConfig(directory, 1 << 20, "key", storage), SwapTimes())


async def fetch(tier: HostTier, adapter: HostAdapter, generation: str) -> Fetched:
    return await tier.get(replace(adapter, generation=generation))


async def idle(tier: HostTier) -> None:
    """Until no wish is left and nothing is being made."""
    async with asyncio.timeout(5):
        while tier._wishes or tier._jobs:
            await asyncio.sleep(0.002)


async def test_ten_requests_lower_an_adapter_once(tier: HostTier, forms: SmallForms, adapter: HostAdapter) -> None:
    found = await asyncio.gather(*(tier.get(adapter) for _ in range(10)))
    assert len({id(fetched.delta) for fetched in found}) == 1 and forms.count.total() == 1
    assert {"package"} <= {fetched.source for fetched in found} <= {"package", "host"}
    assert (await tier.get(adapter)).source == "host"
    stats = tier.stats()
    assert (stats.hits, stats.misses, stats.residents, stats.num_bytes) == (1, 10, 1, 400)


async def test_waiting_takes_no_thread_from_others_and_leaving_harms_nobody(
    tier: HostTier, forms: SmallForms, adapter: HostAdapter
) -> None:
    forms.may_go.clear()
    waiting = [asyncio.create_task(tier.get(adapter)) for _ in range(40)]
    await asyncio.wait_for(asyncio.to_thread(int), 2)
    waiting[0].cancel()
    await asyncio.sleep(0)
    forms.may_go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(fetched, Fetched) for fetched in found[1:]) and forms.count.total() == 1


async def test_an_adapter_that_does_not_fit_is_not_tried_again(
    tier: HostTier, forms: SmallForms, adapter: HostAdapter
) -> None:
    for _ in range(3):
        with pytest.raises(AdapterIncompatible, match="broken"):
            await fetch(tier, adapter, "broken")
    assert forms.count["broken"] == 1


async def test_the_least_recently_used_goes_and_what_is_used_stays(
    tier: HostTier, forms: SmallForms, adapter: HostAdapter
) -> None:
    held = await fetch(tier, adapter, "held")
    for generation in ("a", "b", "c"):
        await fetch(tier, adapter, generation)
        gc.collect()
        assert tier.stats().num_bytes <= 800
    assert (await fetch(tier, adapter, "held")).delta is held.delta
    assert (await fetch(tier, adapter, "c")).source == "host"
    await fetch(tier, adapter, "a")
    assert forms.count == {"held": 1, "a": 2, "b": 1, "c": 1} and tier.stats().evictions == 3


async def test_what_was_lowered_once_is_read_from_disk_by_the_next_process(
    adapter: HostAdapter, tmp_path: Path
) -> None:
    for storage in ("plain", "int8"):
        first = HostTier(forms := SmallForms(storage), 800, files_in(tmp_path / storage, storage), SwapTimes())
        lowered = await fetch(first, adapter, "a")
        first.close()
        first._lowerer.shutdown(wait=True)
        files = files_in(tmp_path / storage, storage)
        second = HostTier(forms, 800, files, SwapTimes())
        read = await fetch(second, adapter, "a")
        second.close()
        assert read.source == "disk" and forms.count.total() == 1
        for mine, theirs in zip(read.delta.linears["q"].tensors, lowered.delta.linears["q"].tensors, strict=True):
            assert torch.equal(mine, theirs)
        assert (files.stats().hits, files.stats().residents) == (1, 1)


async def test_a_file_on_disk_does_not_wait_for_another_adapters_lowering(adapter: HostAdapter, tmp_path: Path) -> None:
    forms, files = SmallForms(), files_in(tmp_path)
    files.write(pack(forms.lower(replace(adapter, generation="there")), "plain"))
    tier = HostTier(forms, 8000, files, SwapTimes())
    forms.may_go.clear()
    slow = asyncio.create_task(fetch(tier, adapter, "slow"))
    assert (await asyncio.wait_for(fetch(tier, adapter, "there"), 2)).source == "disk"
    assert not slow.done()
    forms.may_go.set()
    assert (await slow).source == "package"
    tier.close()


async def test_int8_storage_takes_a_quarter_of_fp32_and_is_unpacked_once_for_all_who_use_it(
    adapter: HostAdapter,
) -> None:
    tier = HostTier(SmallForms("int8"), 800, None, SwapTimes())
    first = await fetch(tier, adapter, "a")
    second = await fetch(tier, adapter, "a")
    assert second.delta is first.delta and tier.stats().num_bytes == 2 * (50 + 4)
    del first, second
    gc.collect()
    third = await fetch(tier, adapter, "a")
    assert third.source == "host" and tier.stats().hits == 2
    tier.close()


async def test_unloading_frees_the_bytes_and_leaves_users_their_adapter(tier: HostTier, adapter: HostAdapter) -> None:
    used = await fetch(tier, adapter, "a")
    assert tier.unload("a") and not tier.unload("a")
    assert tier.stats().num_bytes == 0 and tier.stats().residents == 0
    assert used.delta.num_bytes == 400


async def test_what_was_unloaded_while_it_was_made_goes_to_those_who_wait_and_is_not_kept(
    tier: HostTier, forms: SmallForms, adapter: HostAdapter
) -> None:
    forms.may_go.clear()
    waiting = asyncio.create_task(fetch(tier, adapter, "a"))
    await asyncio.sleep(0.02)
    assert not tier.unload("a")
    forms.may_go.set()
    assert (await waiting).source == "package"
    assert not tier.holds("a") and tier.stats().num_bytes == 0
    forms.may_go.clear()
    again = [asyncio.create_task(fetch(tier, adapter, "a"))]
    await asyncio.sleep(0.02)
    tier.unload("a")
    again.append(asyncio.create_task(fetch(tier, adapter, "a")))
    await asyncio.sleep(0.02)
    forms.may_go.set()
    await asyncio.gather(*again)
    assert tier.holds("a"), "somebody has asked for it since"


async def test_the_pinned_stay_and_can_be_unloaded(tier: HostTier, adapter: HostAdapter) -> None:
    tier.pin(frozenset({"of a"}))
    for generation in ("a", "b", "c", "d"):
        await fetch(tier, adapter, generation)
        gc.collect()
    assert tier.holds("a") and tier.holds("d") and tier.stats().num_bytes == 800
    assert [(held.generation, held.name) for held in tier.holdings()] == [("a", "of a"), ("d", "of d")]
    tier.pin(frozenset())
    await fetch(tier, adapter, "e")
    assert not tier.holds("a")
    tier.pin(frozenset({"of e"}))
    assert tier.unload("e") and not tier.holds("e")


async def test_memory_is_given_back_after_an_unloading_and_now_and_then_after_evictions(
    tier: HostTier, adapter: HostAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_back: list[int] = []
    monkeypatch.setattr(host_tier, "LEFT_OVER_BYTES", 1200)
    monkeypatch.setattr(host_tier, "give_back", lambda: given_back.append(tier.stats().evictions))
    for number in range(12):
        await fetch(tier, adapter, str(number))
        gc.collect()
    tier._reader.submit(int).result()
    assert len(given_back) == 3 and tier.stats().evictions == 10
    tier.unload("11")
    tier._reader.submit(int).result()
    assert len(given_back) == 4


async def test_a_wish_is_here_when_it_is_asked_for(tier: HostTier, forms: SmallForms, adapter: HostAdapter) -> None:
    tier.wish(replace(adapter, generation="next"))
    await idle(tier)
    assert tier.holds("next") and tier.stats().misses == 0
    assert (await fetch(tier, adapter, "next")).source == "host" and forms.count["next"] == 1


async def test_wishes_wait_until_nothing_that_was_asked_for_is_being_made(
    tier: HostTier, forms: SmallForms, adapter: HostAdapter
) -> None:
    forms.may_go.clear()
    asked = asyncio.create_task(fetch(tier, adapter, "asked"))
    await asyncio.sleep(0.02)
    tier.wish(replace(adapter, generation="wish"))
    also = asyncio.create_task(fetch(tier, adapter, "also"))
    await asyncio.sleep(0.02)
    forms.may_go.set()
    await asyncio.gather(asked, also)
    await idle(tier)
    assert forms.order == ["asked", "also", "wish"]


async def test_a_wish_evicts_nothing_that_is_used_or_was_lately(
    tier: HostTier, forms: SmallForms, clock: Clock, adapter: HostAdapter
) -> None:
    used = await fetch(tier, adapter, "used")
    await fetch(tier, adapter, "recent")
    gc.collect()
    tier.wish(replace(adapter, generation="wish"))
    await idle(tier)
    assert forms.count["wish"] == 1 and not tier.holds("wish") and tier.stats().evictions == 0
    clock.now += RECENT_S + 1
    tier.wish(replace(adapter, generation="wish"))
    await idle(tier)
    assert tier.holds("wish") and tier.holds("used") and not tier.holds("recent")
    await fetch(tier, adapter, "new")
    assert not tier.holds("wish") and used.delta.num_bytes, "a wish that nobody asked for is the first to go"


async def test_nobody_waits_for_a_tier_that_is_closed(tier: HostTier, forms: SmallForms, adapter: HostAdapter) -> None:
    forms.may_go.clear()
    waiting = [asyncio.create_task(fetch(tier, adapter, name)) for name in ("a", "b")]
    await asyncio.sleep(0.02)
    tier.close()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    forms.may_go.set()
    assert all(isinstance(fault, EngineStopped) for fault in found)
    with pytest.raises(EngineStopped):
        await fetch(tier, adapter, "c")
