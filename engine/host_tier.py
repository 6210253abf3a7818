"""Lowered adapters in host memory: how they come there, once for all who ask. `held_deltas` says which of them stay.

What is not here is read from disk, and what is not there either is lowered, each by one thread of its own, so that a
file never waits for another adapter's lowering. What ten requests ask for together is made once. Wishes (experts that
may be asked for next) are served only while nothing that was asked for is being made, and make room only where nobody
looked lately.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from adapters_store.package import HostAdapter
from engine.errors import AdapterIncompatible, EngineStopped
from engine.held_deltas import Fetched, HeldDeltas
from engine.lowered_files import LoweredFiles
from engine.model.delta import Delta
from engine.model.memory import give_back
from engine.packing import StoredDelta
from engine.tier_stats import Holding, Source, SwapTimes, TierStats

MAX_FAULTS = 1024
"""Adapters that are remembered to be incompatible."""
MAX_WISHES = 8
LEFT_OVER_BYTES = 64 << 20
"""Of adapters that left, after which memory is given back: glibc keeps the gaps, and new ones do not quite fit them."""


class Forms(Protocol):
    def lower(self, adapter: HostAdapter) -> Delta: ...
    def pack(self, delta: Delta) -> StoredDelta: ...
    def unpack(self, stored: StoredDelta) -> Delta: ...


@dataclass(slots=True, eq=False)
class _Job:
    """The making of one adapter; all who wait for it share its future."""

    adapter: HostAdapter
    is_wanted: bool
    is_kept: bool = True
    """False where it was unloaded meanwhile: those who wait get it, and nobody after them."""
    done: "Future[tuple[Delta, Source]]" = field(default_factory=Future)


class HostTier:
    """Thread-safe; `get` belongs to an event loop."""

    def __init__(
        self,
        forms: Forms,
        capacity_bytes: int,
        files: LoweredFiles | None,
        times: SwapTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._forms, self._files, self._times = forms, files, times
        self._held = HeldDeltas(capacity_bytes, clock)
        self._faults: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._jobs: dict[str, _Job] = {}
        self._wishes: OrderedDict[str, HostAdapter] = OrderedDict()
        self._hits = self._misses = 0
        self._given_back = 0
        self._is_closed = False
        self._lock = Lock()
        self._reader = ThreadPoolExecutor(1, "lowered-files")
        self._lowerer = ThreadPoolExecutor(1, "lowering")

    async def get(self, adapter: HostAdapter) -> Fetched:
        """Raises AdapterIncompatible, or EngineStopped. Who no longer waits leaves the making to the others."""
        began, generation = time.perf_counter(), adapter.generation
        with self._lock:
            if generation in self._faults:
                raise AdapterIncompatible(*self._faults[generation])
            if generation in self._held:
                self._hits += 1
                if (delta := self._held.touch(generation)) is not None:
                    return self._handed(delta, "host", began)
            else:
                self._misses += 1
            job = self._job(adapter, is_wanted=True)
        made: asyncio.Future[tuple[Delta, Source]] = asyncio.wrap_future(job.done)
        lowered, source = await asyncio.shield(made)
        with self._lock:
            return self._handed(lowered, source, began)

    def wish(self, adapter: HostAdapter) -> None:
        """It may be asked for soon: bring it here if there is time and room for it. The oldest wishes are forgotten."""
        with self._lock:
            generation = adapter.generation
            if generation in self._held or generation in self._jobs or generation in self._faults:
                return
            self._wishes[generation] = adapter
            self._wishes.move_to_end(generation)
            if len(self._wishes) > MAX_WISHES:
                self._wishes.popitem(last=False)
            self._grant()

    def holds(self, generation: str) -> bool:
        with self._lock:
            return generation in self._held

    def unload(self, generation: str) -> bool:
        """Let go of it now, or with its last user. Was it there?"""
        with self._lock:
            self._wishes.pop(generation, None)
            if job := self._jobs.get(generation):
                job.is_kept = False
            was_there = self._held.drop(generation)
            if was_there and not self._is_closed:
                self._reader.submit(self._give_back, 1)
            return was_there

    def pin(self, names: frozenset[str]) -> None:
        """The experts that stay here once they are here, and no others."""
        with self._lock:
            self._held.pinned = names

    def stats(self) -> TierStats:
        """Bytes of the storage form; what is unpacked for those who use it right now is not among them."""
        with self._lock:
            held = self._held
            return TierStats(self._hits, self._misses, held.num_evictions, len(held.holdings), held.num_bytes)

    def holdings(self) -> tuple[Holding, ...]:
        """What is here, least recently used first, with the bytes of its storage form."""
        with self._lock:
            return self._held.holdings

    def close(self) -> None:
        """Nobody may wait for ever."""
        with self._lock:
            self._is_closed = True
            jobs = list(self._jobs.values())
            self._wishes.clear()
        for pool in (self._reader, self._lowerer):
            pool.shutdown(wait=False, cancel_futures=True)
        for job in jobs:
            self._settle(job, fault=EngineStopped("the engine was stopped"))

    def _job(self, adapter: HostAdapter, is_wanted: bool) -> _Job:
        if self._is_closed:
            raise EngineStopped("the engine was stopped")
        if job := self._jobs.get(adapter.generation):
            job.is_wanted |= is_wanted
            job.is_kept = True
            return job
        self._wishes.pop(adapter.generation, None)
        job = self._jobs[adapter.generation] = _Job(adapter, is_wanted)
        self._reader.submit(self._read, job)
        return job

    def _grant(self) -> None:
        if self._wishes and not self._jobs and not self._is_closed:
            self._job(self._wishes.popitem()[1], is_wanted=False)

    def _read(self, job: _Job) -> None:
        """On the reader's thread: what is packed in memory, else the file, else it is the lowering's turn."""
        generation = job.adapter.generation
        try:
            with self._lock:
                stored = self._held.stored(generation)
            if stored is not None:
                self._settle(job, stored, self._unpacked(stored), "host")
                return
            stored = self._files.read(generation) if self._files else None
            delta = None
            if self._files and stored is not None:
                try:
                    delta = self._unpacked(stored)
                except ValueError:  # sound, and not what these slots take
                    self._files.discard(generation)
            if stored is not None and delta is not None:
                self._settle(job, stored, delta, "disk")
            else:
                self._lowerer.submit(self._lower, job)
        except BaseException as fault:  # whatever it is, it reaches everybody who waits
            self._settle(job, fault=fault)
        finally:
            self._give_back(LEFT_OVER_BYTES)

    def _give_back(self, least: int) -> None:
        """On the reader's thread, since it takes some milliseconds; nothing where less than `least` was left over."""
        with self._lock:
            dropped = self._held.dropped_bytes
            if dropped - self._given_back < least:
                return
            self._given_back = dropped
        give_back()

    def _lower(self, job: _Job) -> None:
        """On the lowering's thread. What is served is what the storage form gives back."""
        try:
            began = time.perf_counter()
            delta = self._forms.lower(job.adapter)
            stored = self._forms.pack(delta)
            if stored.storage != "plain":
                delta = self._forms.unpack(stored)
            self._times.count_stage("lower", time.perf_counter() - began)
        except BaseException as fault:
            self._settle(job, fault=fault)
            return
        self._settle(job, stored, delta, "package")
        if self._files:
            self._files.write(stored)

    def _unpacked(self, stored: StoredDelta) -> Delta:
        began = time.perf_counter()
        delta = self._forms.unpack(stored)
        if stored.storage != "plain":
            self._times.count_stage("lower", time.perf_counter() - began)
        return delta

    def _settle(
        self,
        job: _Job,
        stored: StoredDelta | None = None,
        delta: Delta | None = None,
        source: Source = "host",
        fault: BaseException | None = None,
    ) -> None:
        generation = job.adapter.generation
        with self._lock:
            if self._jobs.get(generation) is not job:
                return  # closed meanwhile
            del self._jobs[generation]
            if stored is not None and delta is not None:
                if job.is_kept:
                    self._held.keep(stored, delta, job.is_wanted)
            elif isinstance(fault, AdapterIncompatible):
                self._faults[generation] = (fault.name, fault.fault)
                if len(self._faults) > MAX_FAULTS:
                    self._faults.popitem(last=False)
        if delta is not None:
            job.done.set_result((delta, source))
        else:
            job.done.set_exception(fault or RuntimeError("nothing was made"))
        with self._lock:
            self._grant()

    def _handed(self, delta: Delta, source: Source, began: float) -> Fetched:
        fetched = Fetched(delta, source, time.perf_counter() - began)
        self._held.add_user(fetched)
        return fetched
