"""Lowered adapters: lowered once, kept while used, failures remembered, and nobody else's threads taken."""

import asyncio
import gc
import threading
from collections import Counter
from dataclasses import replace

import pytest
import torch

from adapters_store.package import HostAdapter
from engine.delta_cache import DeltaCache
from engine.errors import AdapterIncompatible
from engine.model.delta import Delta
from tests.unit.engine.models import Reference


class Lowering:
    """Makes deltas of 400 bytes, counts, and waits for `may_go`."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, adapter: HostAdapter) -> Delta:
        self.count[adapter.generation] += 1
        assert self.may_go.wait(5)
        if adapter.generation == "broken":
            raise AdapterIncompatible("name", "it is broken")
        return Delta(adapter.generation, "name", {}, torch.zeros(10, 10))


@pytest.fixture
def adapter(references: dict[str, Reference]) -> HostAdapter:
    return references["lora"].adapter


async def test_ten_requests_lower_an_adapter_once(adapter: HostAdapter) -> None:
    lowering = Lowering()
    deltas = DeltaCache(lowering, 1000)
    found = await asyncio.gather(*(deltas.get(adapter) for _ in range(10)))
    assert len({id(delta) for delta in found}) == 1 and lowering.count.total() == 1


async def test_waiting_takes_no_thread_from_others_and_leaving_harms_nobody(adapter: HostAdapter) -> None:
    lowering = Lowering()
    deltas = DeltaCache(lowering, 1000)
    lowering.may_go.clear()
    waiting = [asyncio.create_task(deltas.get(adapter)) for _ in range(40)]
    await asyncio.wait_for(asyncio.to_thread(int), 2)
    waiting[0].cancel()
    await asyncio.sleep(0)
    lowering.may_go.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(delta, Delta) for delta in found[1:]) and lowering.count.total() == 1


async def test_an_adapter_that_does_not_fit_is_not_tried_again(adapter: HostAdapter) -> None:
    lowering = Lowering()
    deltas = DeltaCache(lowering, 1000)
    for _ in range(3):
        with pytest.raises(AdapterIncompatible, match="broken"):
            await deltas.get(replace(adapter, generation="broken"))
    assert lowering.count["broken"] == 1


async def test_the_least_recently_used_goes_unless_somebody_holds_it(adapter: HostAdapter) -> None:
    lowering = Lowering()
    deltas = DeltaCache(lowering, 800)
    held = await deltas.get(replace(adapter, generation="held"))
    for generation in ("a", "b", "c"):
        await deltas.get(replace(adapter, generation=generation))
        assert deltas.num_bytes <= 800
    assert await deltas.get(replace(adapter, generation="held")) is held
    gc.collect()
    await deltas.get(replace(adapter, generation="a"))
    assert lowering.count == {"held": 1, "a": 2, "b": 1, "c": 1}
