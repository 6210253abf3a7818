"""Lowered adapters in host memory, least recently used out first, bounded by bytes beside what is in use."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from weakref import WeakValueDictionary

from adapters_store.package import HostAdapter
from engine.errors import AdapterIncompatible
from engine.model.delta import Delta

MAX_FAULTS = 1024
"""Adapters that are remembered to be incompatible."""


class DeltaCache:
    """Thread-safe. What ten requests ask for together is lowered once, by the one thread of the cache."""

    def __init__(self, lower: Callable[[HostAdapter], Delta], capacity_bytes: int) -> None:
        self._lower, self.capacity_bytes = lower, capacity_bytes
        self._held: OrderedDict[str, Delta] = OrderedDict()
        self._in_use: WeakValueDictionary[str, Delta] = WeakValueDictionary()
        self._faults: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._lowering: dict[str, Future[Delta]] = {}
        self._lock = Lock()
        self._worker = ThreadPoolExecutor(1, "lowering")

    @property
    def num_bytes(self) -> int:
        return sum(delta.num_bytes for delta in self._held.values())

    async def get(self, adapter: HostAdapter) -> Delta:
        """The adapter's delta; raises AdapterIncompatible. Who no longer waits leaves the lowering to the others."""
        generation = adapter.generation
        with self._lock:
            if generation in self._faults:
                raise AdapterIncompatible(*self._faults[generation])
            if (delta := self._held.get(generation) or self._in_use.get(generation)) is not None:
                self._keep(generation, delta)
                return delta
            if (lowering := self._lowering.get(generation)) is None:
                lowering = self._lowering[generation] = self._worker.submit(self._make, adapter)
        return await asyncio.shield(asyncio.wrap_future(lowering))

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _make(self, adapter: HostAdapter) -> Delta:
        generation = adapter.generation
        delta, fault = None, None
        try:
            delta = self._lower(adapter)
            return delta
        except AdapterIncompatible as found:
            fault = found
            raise
        finally:
            with self._lock:
                del self._lowering[generation]
                if delta is not None:
                    self._keep(generation, delta)
                elif fault is not None:
                    self._remember(generation, fault)

    def _remember(self, generation: str, fault: AdapterIncompatible) -> None:
        self._faults[generation] = (fault.name, fault.fault)
        if len(self._faults) > MAX_FAULTS:
            self._faults.popitem(last=False)

    def _keep(self, generation: str, delta: Delta) -> None:
        self._held[generation] = self._in_use[generation] = delta
        self._held.move_to_end(generation)
        while self.num_bytes > self.capacity_bytes and len(self._held) > 1:
            self._held.popitem(last=False)
