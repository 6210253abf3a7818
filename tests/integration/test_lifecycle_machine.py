"""An expert's whole life in any order of events: catalogue, package, lowered file, host memory and slot together.

The machine of the catalogue goes on to what the engine does with an expert. Beside it stand the values that each lease
and each slot must have; packages hold one value in all their tensors, and so does what is lowered from them.
"""

import asyncio
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, consumes, initialize, invariant, precondition, rule, run_state_machine_as_test

from adapters_store.cache import Lease
from adapters_store.errors import ExpertNotFound, PackageInvalid, StoreFull
from adapters_store.installer import Installer
from adapters_store.light import LightReader
from adapters_store.manifest import WEIGHTS_FILE
from adapters_store.package import HostAdapter
from adapters_store.store import AdapterStore
from engine.config import AdapterStorage
from engine.held_deltas import Fetched
from engine.host_tier import HostTier
from engine.lowered_files import FilesConfig, LoweredFiles
from engine.model.delta import Delta, LinearDelta
from engine.packing import StoredDelta, pack, unpack
from engine.slots import AdapterSlots
from engine.tier_stats import SwapTimes
from tests.unit.adapters_store.packages import lora_files
from tests.unit.adapters_store.test_catalogue_machine import NAMES, CatalogueMachine

WIDTH = 64
NUM_SLOTS = 2
NUM_HELD = 2
"""Lowered adapters that fit into host memory."""


class OneValue:
    """Lowers a package of one value to a row of it."""

    def __init__(self, storage: AdapterStorage) -> None:
        self.storage = storage

    def lower(self, adapter: HostAdapter) -> Delta:
        (value,) = {float(tensor.max()) for _, tensor in adapter.tensors.items()}
        row = torch.full((1, WIDTH), value)
        return Delta(adapter.generation, adapter.manifest.name, {"q": LinearDelta(row, row)})

    def pack(self, delta: Delta) -> StoredDelta:
        return pack(delta, self.storage)

    def unpack(self, stored: StoredDelta) -> Delta:
        return unpack(stored, torch.float32)

    @property
    def num_bytes(self) -> int:
        row = torch.ones(1, WIDTH)
        return self.pack(Delta("", "", {"q": LinearDelta(row, row)})).num_bytes


def value_of(delta: Delta) -> float:
    (value,) = {round(float(part), 5) for tensor in delta.linears["q"].tensors for part in tensor.flatten()}
    return value


@dataclass(slots=True)
class Use:
    """One request: its lease, the weights that it has, and whether it sits in a slot."""

    lease: Lease
    value: float
    slots: AdapterSlots
    fetched: Fetched | None = None
    is_running: bool = False

    @property
    def generation(self) -> str:
        return self.lease.adapter.generation


class LifecycleMachine(CatalogueMachine):
    """The catalogue's rules and these; what is killed or restarted loses all memory and keeps all files."""

    requests = Bundle("requests")

    @initialize(storage=st.sampled_from(["plain", "int8"]))
    def begin(self, storage: AdapterStorage) -> None:
        self.forms = OneValue(storage)
        self.store = self.opened()

    def __init__(self) -> None:
        self.forms = OneValue("plain")
        self.lowered = Path(tempfile.mkdtemp())
        self.runner = asyncio.Runner()
        self.tier: HostTier | None = None
        self.late: set[str] = set()
        self.unloaded: set[str] = set()
        self.num_asked = 0
        super().__init__()

    def opened(self) -> AdapterStore:
        """A new process over the same files."""
        self.close()
        config = FilesConfig(self.lowered, 20_000, self.forms.storage, self.forms.storage)
        self.files = LoweredFiles(config, SwapTimes())
        self.tier = HostTier(self.forms, NUM_HELD * self.forms.num_bytes, self.files, SwapTimes())
        self.slots, self.device = AdapterSlots(NUM_SLOTS), dict[int, float]()
        self.uses: dict[int, Use] = {}
        self.late.clear()
        self.unloaded.clear()
        capacity = 4 * len(lora_files()[WEIGHTS_FILE])
        reader = LightReader(small_bytes=0)
        return AdapterStore(self.root, capacity, reader, on_unload=self.let_go, on_pins=self.tier.pin)

    def close(self) -> None:
        if self.tier is not None:
            self.idle()
            self.tier.close()
            self.tier._lowerer.shutdown(wait=True)
            self.files.close()

    def idle(self) -> None:
        """Until nothing is being made and what was made is written."""
        tier, deadline = self.tier, time.monotonic() + 10
        assert tier is not None
        while tier._jobs or tier._wishes:
            assert time.monotonic() < deadline, "a job never ends"
            time.sleep(0.0005)
        tier._lowerer.submit(int).result()

    def let_go(self, generation: str) -> None:
        """As the engine does when it is told of an unloading."""
        assert self.tier is not None
        self.tier.unload(generation)
        self.unloaded.add(generation)
        self.slots.retire(generation)
        self.clear_freed()

    def clear_freed(self) -> None:
        for slot in self.slots.take_freed():
            del self.device[slot]

    def get(self, adapter: HostAdapter) -> Fetched:
        assert self.tier is not None
        fetched = self.runner.run(self.tier.get(adapter))
        self.idle()
        return fetched

    @rule(held=consumes(CatalogueMachine.leases))
    def release(self, held: tuple[Lease, float] | None) -> None:
        """Of a lease that nobody used. Its package may be gone by now, and its weights were never read."""
        if held is not None:
            held[0].release()
            self.held = [other for other in self.held if other is not held[0]]

    @rule(target=requests, name=NAMES)
    def ask(self, name: str) -> int:
        """A request comes as far as it can: to a lease, its weights, and a slot if one can be had."""
        self.num_asked += 1
        try:
            lease = self.store.fetch(name)
        except ExpertNotFound:
            assert name not in self.expected
            return -1
        except StoreFull:
            return -1
        use = self.uses[self.num_asked] = Use(lease, self.expected[name][0], self.slots)
        self.held.append(lease)
        use.fetched = self.get(lease.adapter)
        self.unloaded.discard(use.generation)
        assert value_of(use.fetched.delta) == use.value
        self.run_request(use)
        return self.num_asked

    @rule(name=NAMES, target=requests)
    def ask_and_wait(self, name: str) -> int:
        """A request that has its lease, and whose turn to get weights has not come."""
        self.num_asked += 1
        try:
            lease = self.store.fetch(name)
        except (ExpertNotFound, StoreFull):
            return -1
        self.uses[self.num_asked] = Use(lease, self.expected[name][0], self.slots)
        self.held.append(lease)
        return self.num_asked

    @rule(number=requests)
    def go_on(self, number: int) -> None:
        """Weights that are nowhere any more are refused, never others given; who runs already goes on."""
        use = self.uses.get(number)
        if use is None or use.is_running:
            return
        if use.fetched is None:
            self.late.add(use.generation)
            try:
                use.fetched = self.get(use.lease.adapter)
            except PackageInvalid:
                assert use.generation not in self.store._catalog.index().generations
                return
            assert value_of(use.fetched.delta) == use.value
        self.run_request(use)

    def run_request(self, use: Use) -> None:
        if use.fetched is None or not self.slots.can_acquire([use.generation]):
            return
        for slot, generation in self.slots.acquire([use.generation]):
            assert generation == use.generation
            self.device[slot] = value_of(use.fetched.delta)
        use.is_running = True

    @rule(number=consumes(requests))
    def end(self, number: int) -> None:
        if (use := self.uses.pop(number, None)) is None:
            return
        if use.is_running:
            self.slots.release([use.generation])
            self.clear_freed()
        use.lease.release()
        self.held = [other for other in self.held if other is not use.lease]

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), is_pinned=st.booleans())
    def pin(self, data: st.DataObject, is_pinned: bool) -> None:
        Installer(self.root).pin(data.draw(st.sampled_from(sorted(self.expected))), is_pinned)

    @rule(name=NAMES)
    def prefetch(self, name: str) -> None:
        assert self.tier is not None
        try:
            with self.store.fetch(name) as lease:
                self.tier.wish(lease.adapter)
        except (ExpertNotFound, StoreFull):
            return
        self.idle()

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        generation = self.store.state(name).generation if name in self.expected else None
        self.store.unload(name)
        if generation is not None:
            assert self.tier is not None and not self.tier.holds(generation)
            is_used = any(use.is_running and use.generation == generation for use in self.uses.values())
            assert is_used or generation not in self.slots.resident

    @rule(data=st.data(), place=st.integers(0, 10_000))
    def damage(self, data: st.DataObject, place: int) -> None:
        """A bit of a lowered file turns over while nobody has it in memory."""
        self.crash()
        if paths := sorted(self.lowered.glob("*/*")):
            path = data.draw(st.sampled_from(paths))
            content = bytearray(path.read_bytes())
            content[-1 - place % len(content)] ^= 4
            path.write_bytes(content)

    @rule()
    def crash(self) -> None:
        self.store, self.held = self.opened(), []

    @invariant()
    def every_tier_holds_what_it_should_and_no_more(self) -> None:
        assert self.tier is not None
        self.store.list()  # by which it follows what the catalogue did
        stats, holdings = self.tier.stats(), self.tier.holdings()
        active = {state.generation for state in self.store.states()}
        in_use = {use.generation for use in self.uses.values() if use.fetched}
        assert stats.num_bytes == sum(holding.num_bytes for holding in holdings) == len(holdings) * self.forms.num_bytes
        pins = self.store._catalog.index().pins
        evictable = [h for h in holdings if h.generation not in in_use and h.name not in pins]
        assert stats.num_bytes <= NUM_HELD * self.forms.num_bytes or len(evictable) <= NUM_HELD
        assert {holding.generation for holding in holdings} <= active | in_use | self.late
        assert (in_use & active) - self.unloaded <= {holding.generation for holding in holdings}
        self.slots.check_integrity()
        running = {use.generation for use in self.uses.values() if use.is_running}
        assert running <= set(self.slots.resident) <= active | running | self.late
        assert {self.slots.slot_of(generation) for generation in self.slots.resident} == self.device.keys()

    @invariant()
    def whoever_runs_has_the_weights_that_it_began_with(self) -> None:
        for use in self.uses.values():
            if use.fetched is not None:
                assert value_of(use.fetched.delta) == use.value
            if use.is_running:
                assert self.device[self.slots.slot_of(use.generation)] == use.value

    def teardown(self) -> None:
        for number in list(self.uses):
            self.end(number)
        self.close()
        self.runner.close()
        shutil.rmtree(self.lowered)
        super().teardown()


LifecycleMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestLifecycleMachine = LifecycleMachine.TestCase


@pytest.mark.slow
def test_an_experts_life_holds_for_thousands_of_steps() -> None:
    run_state_machine_as_test(
        LifecycleMachine, settings=settings(max_examples=200, stateful_step_count=60, deadline=None)
    )
