"""Lowered adapters in host memory, least recently used out first, bounded by bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable

from adapters_store.package import HostAdapter
from engine.model.delta import Delta


class DeltaCache:
    """Thread-safe. One adapter is lowered once even when ten requests ask for it together."""

    def __init__(self, lower: Callable[[HostAdapter], Delta], capacity_bytes: int) -> None:
        self._lower, self.capacity_bytes = lower, capacity_bytes
        self._held: OrderedDict[str, Delta] = OrderedDict()
        self._lock = threading.Lock()
        self._lowering: dict[str, threading.Lock] = {}

    @property
    def num_bytes(self) -> int:
        return sum(delta.num_bytes for delta in self._held.values())

    def get(self, adapter: HostAdapter) -> Delta:
        """The adapter's delta; raises AdapterIncompatible."""
        with self._lock:
            if adapter.generation in self._held:
                self._held.move_to_end(adapter.generation)
                return self._held[adapter.generation]
            turn = self._lowering.setdefault(adapter.generation, threading.Lock())
        with turn:
            with self._lock:
                if adapter.generation in self._held:
                    return self._held[adapter.generation]
            try:
                delta = self._lower(adapter)
            except BaseException:
                with self._lock:
                    self._lowering.pop(adapter.generation, None)
                raise
            with self._lock:
                self._lowering.pop(adapter.generation, None)
                self._held[adapter.generation] = delta
                while self.num_bytes > self.capacity_bytes and len(self._held) > 1:
                    self._held.popitem(last=False)
            return delta
