"""The router's runners-up, brought to host memory before somebody asks for them.

Owns a thread of its own and a short list of names; a name that does not get its turn is forgotten. Knows neither slots
nor what the engine has room for: that is the engine's to refuse. Called by `generation`.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from adapters_store.errors import StoreError
from adapters_store.package import HostAdapter
from adapters_store.store import AdapterStore
from router.decision import RouteDecision

log = logging.getLogger(__name__)

RUNNERS_UP = 2
MAX_PENDING = 4


class Prefetcher:
    """Thread-safe. `wish` hands an adapter to the engine, which may decline; only those that `is_usable` get there."""

    def __init__(
        self, store: AdapterStore, wish: Callable[[HostAdapter], None], is_usable: Callable[[HostAdapter], bool]
    ) -> None:
        self._store, self._wish, self._is_usable = store, wish, is_usable
        self._pending: set[str] = set()
        self._lock = Lock()
        self._thread = ThreadPoolExecutor(1, "prefetch")

    def follow(self, decision: RouteDecision) -> None:
        """Returns at once."""
        for name in runners_up(decision):
            with self._lock:
                if name in self._pending or len(self._pending) >= MAX_PENDING:
                    continue
                self._pending.add(name)
            self._thread.submit(self._fetch, name)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _fetch(self, name: str) -> None:
        try:
            with self._store.fetch(name) as lease:
                if self._is_usable(lease.adapter):
                    self._wish(lease.adapter)
        except StoreError as fault:
            log.debug("expert %s is not prefetched: %s", name, fault)
        finally:
            with self._lock:
                self._pending.discard(name)


def runners_up(decision: RouteDecision) -> tuple[str, ...]:
    """The experts with the best scores above zero beside the chosen ones, best first."""
    chosen = {expert.name for expert in decision.experts}
    others = [(score, name) for name, score in decision.scores.items() if score > 0 and name not in chosen]
    return tuple(name for _, name in sorted(others, key=lambda other: (-other[0], other[1]))[:RUNNERS_UP])
