"""Adapters in host memory: a byte-bounded LRU with leases.

Owns which adapters are resident. Knows no paths: it is told how to load, and what identifies a content.
Called by `store` from any thread; all state is under one lock, which is never held while loading.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Lock
from types import TracebackType

from adapters_store.errors import StoreFull
from adapters_store.package import HostAdapter


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counters since the start. A hit was served at once; a miss waited for a load, its own or another's."""

    hits: int
    misses: int
    evictions: int
    loads: int
    load_seconds: float
    resident_bytes: int  # loading and leased ones included: never above the capacity


@dataclass(frozen=True, slots=True)
class Resident:
    """An adapter in host memory, or one that is being loaded into it."""

    name: str
    generation: str | None  # None while it is being loaded
    num_bytes: int
    leases: int
    is_retired: bool  # nobody finds it any more; it goes with its last lease


@dataclass(slots=True, eq=False)
class _Entry:
    name: str
    content: Hashable
    num_bytes: int
    ready: Future[HostAdapter]
    leases: int = 0


class Lease:
    """The right to use an adapter; its memory stays until every lease on it is released."""

    def __init__(self, adapter: HostAdapter, release: Callable[[], None]) -> None:
        self.adapter = adapter
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Safe to call twice: a cancelled request may be cleaned up from two sides."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class AdapterCache:
    def __init__(self, capacity_bytes: int) -> None:
        self._capacity_bytes = capacity_bytes
        self._lock = Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # least recently used first
        self._retired: list[_Entry] = []  # replaced or dropped, and still leased
        self._resident_bytes = 0  # of the entries and of the retired ones
        self.pinned: frozenset[str] = frozenset()
        """Names that are never evicted; replaced and dropped they may be."""
        self._hits = self._misses = self._evictions = self._loads = 0
        self._load_seconds = 0.0

    def acquire(self, name: str, content: Hashable, max_bytes: int, load: Callable[[], HostAdapter]) -> Lease:
        """A lease on `content`, loaded by whoever asks first; `max_bytes` bounds what `load` will return.

        Another content under the same name replaces it here; leases on the old one keep the old one.
        """
        with self._lock:
            entry = self._entries.get(name)
            is_new = entry is None or entry.content != content
            if entry is None or is_new:
                entry = self._insert(name, content, max_bytes)
            self._entries.move_to_end(name)
            entry.leases += 1
            if not is_new and entry.ready.done():
                self._hits += 1
            else:
                self._misses += 1
        if is_new:
            self._load(entry, load)
        with ExitStack() as unless_loaded:
            unless_loaded.callback(self._release, entry)
            adapter = entry.ready.result()
            return Lease(adapter, unless_loaded.pop_all().close)

    def stats(self) -> StoreStats:
        with self._lock:
            return StoreStats(
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                loads=self._loads,
                load_seconds=self._load_seconds,
                resident_bytes=self._resident_bytes,
            )

    def drop(self, name: str) -> bool:
        """Its bytes are free now, or with its last lease. Was it there?"""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                self._retire(entry)
            return entry is not None

    def residents(self) -> tuple[Resident, ...]:
        """Least recently used first, then the retired ones."""
        with self._lock:
            return tuple(
                Resident(entry.name, _generation_of(entry), entry.num_bytes, entry.leases, is_retired)
                for entries, is_retired in ((self._entries.values(), False), (self._retired, True))
                for entry in entries
            )

    def _insert(self, name: str, content: Hashable, max_bytes: int) -> _Entry:
        outdated = self._entries.get(name)
        if outdated is not None:
            self._retire(outdated)
        self._make_room(name, max_bytes)
        entry = self._entries[name] = _Entry(name, content, max_bytes, Future())
        self._resident_bytes += max_bytes
        return entry

    def _make_room(self, name: str, needed_bytes: int) -> None:
        idle = [entry for entry in self._entries.values() if entry.leases == 0 and entry.name not in self.pinned]
        leased_bytes = self._resident_bytes - sum(entry.num_bytes for entry in idle)
        if leased_bytes + needed_bytes > self._capacity_bytes:
            raise StoreFull(name, needed_bytes, leased_bytes, self._capacity_bytes)
        for entry in idle:
            if self._resident_bytes + needed_bytes <= self._capacity_bytes:
                break
            self._retire(entry)
            self._evictions += 1

    def _load(self, entry: _Entry, load: Callable[[], HostAdapter]) -> None:
        """Runs outside the lock: the loader's lease keeps the entry, and its bytes are already counted."""
        started = time.perf_counter()
        try:
            adapter = load()
        except BaseException as fault:  # whatever it is, it reaches everybody who waits for this load
            with self._lock:
                self._retire(entry)
            entry.ready.set_exception(fault)
            return
        with self._lock:
            self._loads += 1
            self._load_seconds += time.perf_counter() - started
            self._resident_bytes -= entry.num_bytes - adapter.num_bytes
            entry.num_bytes = adapter.num_bytes
        entry.ready.set_result(adapter)

    def _retire(self, entry: _Entry) -> None:
        """Nobody finds it any more; its bytes are free now, or with its last lease."""
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
            if entry.leases == 0:
                self._resident_bytes -= entry.num_bytes
            else:
                self._retired.append(entry)

    def _release(self, entry: _Entry) -> None:
        with self._lock:
            entry.leases -= 1
            if entry.leases == 0 and self._entries.get(entry.name) is not entry:
                self._retired.remove(entry)
                self._resident_bytes -= entry.num_bytes


def _generation_of(entry: _Entry) -> str | None:
    is_loaded = entry.ready.done() and entry.ready.exception() is None
    return entry.ready.result().generation if is_loaded else None
