"""The router over a catalogue that changes while the server runs, by whatever process.

Knows when what the router knows is old, and nothing of routing. Called by `generation` on the event loop.
"""

import asyncio

from adapters_store.store import AdapterStore
from router.decision import RouteDecision, RouteQuery
from router.pipeline import Router


class LiveRouter:
    """Knows the experts of the catalogue that were made for the base with this fingerprint."""

    def __init__(self, store: AdapterStore, fingerprint: str) -> None:
        self._store, self._fingerprint = store, fingerprint
        self._lock = asyncio.Lock()
        self._revision, self._router = self._built()

    async def refresh(self) -> None:
        """Whoever comes first after a change reads the manifests, in a thread; who comes meanwhile waits for that."""
        if self._store.revision == self._revision:
            return
        async with self._lock:
            if self._store.revision != self._revision:
                self._revision, self._router = await asyncio.to_thread(self._built)

    def route(self, query: RouteQuery) -> RouteDecision:
        """As the router does, on what the last refresh has seen."""
        return self._router.route(query)

    def _built(self) -> tuple[int, Router]:
        revision = self._store.revision  # before the manifests: a change between the two is seen again
        return revision, Router(m for m in self._store.list() if m.base == self._fingerprint)
