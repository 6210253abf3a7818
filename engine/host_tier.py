"""Lowered adapters in host memory, least recently used out first, bounded by bytes beside what is in use.

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
from weakref import ReferenceType, WeakSet, ref

from adapters_store.package import HostAdapter
from engine.errors import AdapterIncompatible, EngineStopped
from engine.lowered_files import LoweredFiles
from engine.model.delta import Delta
from engine.packing import StoredDelta
from engine.tier_stats import Source, SwapTimes, TierStats

MAX_FAULTS = 1024
"""Adapters that are remembered to be incompatible."""
MAX_WISHES = 8
RECENT_S = 60.0
"""How long after its last use a wish leaves an adapter alone."""


class Forms(Protocol):
    def lower(self, adapter: HostAdapter) -> Delta: ...
    def pack(self, delta: Delta) -> StoredDelta: ...
    def unpack(self, stored: StoredDelta) -> Delta: ...


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


@dataclass(slots=True, eq=False)
class _Job:
    """The making of one adapter; all who wait for it share its future."""

    adapter: HostAdapter
    is_wanted: bool
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
        self._forms, self.capacity_bytes, self._files = forms, capacity_bytes, files
        self._times, self._clock = times, clock
        self._held: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._faults: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._jobs: dict[str, _Job] = {}
        self._wishes: OrderedDict[str, HostAdapter] = OrderedDict()
        self._hits = self._misses = self._evictions = 0
        self._num_bytes = 0
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
            if entry := self._held.get(generation):
                self._hits += 1
                self._touch(generation, entry)
                if (delta := entry.delta()) is not None:
                    return self._handed(generation, Fetched(delta, "host", time.perf_counter() - began))
            else:
                self._misses += 1
            job = self._job(adapter, is_wanted=True)
        made: asyncio.Future[tuple[Delta, Source]] = asyncio.wrap_future(job.done)
        lowered, source = await asyncio.shield(made)
        with self._lock:
            return self._handed(generation, Fetched(lowered, source, time.perf_counter() - began))

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
            return self._drop(generation)

    def stats(self) -> TierStats:
        """Bytes of the storage form; what is unpacked for those who use it right now is not among them."""
        with self._lock:
            return TierStats(self._hits, self._misses, self._evictions, len(self._held), self._num_bytes)

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
                entry = self._held.get(generation)
            if entry is not None:
                self._settle(job, entry.stored, self._unpacked(entry.stored), "host")
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
                self._keep(generation, stored, delta, job.is_wanted)
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

    def _keep(self, generation: str, stored: StoredDelta, delta: Delta, is_wanted: bool) -> None:
        if entry := self._held.get(generation):
            entry.delta = ref(delta)
            return
        if not is_wanted and not self._make_room_for_a_wish(stored.num_bytes):
            return
        kept = delta if stored.storage == "plain" else None
        self._held[generation] = _Entry(stored, ref(delta), kept, self._clock() if is_wanted else None)
        self._held.move_to_end(generation, last=is_wanted)
        self._num_bytes += stored.num_bytes
        for other in list(self._held):
            if self._num_bytes <= self.capacity_bytes:
                break
            if other != generation and not self._held[other].users:
                self._evict(other)

    def _make_room_for_a_wish(self, num_bytes: int) -> bool:
        """Only what nobody uses or used lately goes; nothing does where that would not be enough."""
        before = self._clock() - RECENT_S
        idle = [g for g, e in self._held.items() if not e.users and (e.last_used is None or e.last_used < before)]
        excess = self._num_bytes + num_bytes - self.capacity_bytes
        if excess > sum(self._held[generation].stored.num_bytes for generation in idle):
            return False
        for generation in idle:
            if self._num_bytes + num_bytes <= self.capacity_bytes:
                break
            self._evict(generation)
        return True

    def _touch(self, generation: str, entry: _Entry) -> None:
        entry.last_used = self._clock()
        self._held.move_to_end(generation)

    def _handed(self, generation: str, fetched: Fetched) -> Fetched:
        if entry := self._held.get(generation):
            entry.users.add(fetched)
        return fetched

    def _evict(self, generation: str) -> None:
        self._evictions += self._drop(generation)

    def _drop(self, generation: str) -> bool:
        if (entry := self._held.pop(generation, None)) is None:
            return False
        self._num_bytes -= entry.stored.num_bytes
        return True
