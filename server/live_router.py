"""The router of a running server, over experts and a training that change on disk while it runs, by whatever process.

Owns when it is built anew: at once where the catalogue has changed, within seconds where a plain directory or a
`hotseat router train` has. What cannot be loaded then leaves the old router in its place. Knows nothing of routing.
Called by `generation` and `router_routes` on the event loop.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adapters_store.errors import StoreError
from adapters_store.manifest import Manifest
from adapters_store.store import AdapterStore
from router.complexity import Tiers
from router.decision import RouteDecision, RouteQuery
from router.encoder import Encoder, load_encoder
from router.errors import ModelInvalid
from router.model import SETTINGS_FILE, load_model
from router.pipeline import Router
from router.syntax import Parser, find_parser
from server.log import log_fault
from server.settings import Settings

REFRESH_SECONDS = 2.0


class RouterSource(Protocol):
    """What a router is made of besides the experts."""

    def stamp(self) -> object: ...
    def build(self, manifests: Sequence[Manifest]) -> Router: ...


class CuesAlone:
    """No training: the cues of the manifests."""

    def stamp(self) -> object:
        """There is nothing that could change."""
        return None

    def build(self, manifests: Sequence[Manifest]) -> Router:
        return Router(manifests)


@dataclass(frozen=True, slots=True)
class Trained:
    """What `hotseat router train` left in `folder`, for this encoder."""

    folder: Path
    encoder: Encoder
    parser: Parser | None = None
    tiers: Tiers = field(default_factory=Tiers)

    def stamp(self) -> object:
        """Another one after every training."""
        try:
            status = (self.folder / SETTINGS_FILE).stat()
        except FileNotFoundError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def build(self, manifests: Sequence[Manifest]) -> Router:
        """Raises ModelInvalid."""
        return Router(manifests, load_model(self.folder), self.encoder, self.parser, self.tiers)


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a router was built from."""

    manifests: tuple[Manifest, ...]
    stamp: object


class LiveRouter:
    """Knows the experts of the store that were made for the base with this fingerprint."""

    def __init__(
        self,
        store: AdapterStore,
        fingerprint: str,
        source: RouterSource | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ModelInvalid: a server does not start with a router that does not fit."""
        self._store, self._fingerprint, self._clock = store, fingerprint, clock
        self._source = source or CuesAlone()
        self._lock = asyncio.Lock()
        self._revision, self._looked = store.revision, clock()
        self._basis = self._look()
        self.current = self._source.build(self._basis.manifests)

    async def refresh(self) -> None:
        """Whoever comes first after a change reads the manifests, in a thread; who comes meanwhile waits for that."""
        if self._is_fresh():
            return
        async with self._lock:
            if not self._is_fresh():
                await asyncio.to_thread(self._renew)

    def route(self, query: RouteQuery) -> RouteDecision:
        """As the router does, on what the last refresh has seen. From any thread."""
        return self.current.route(query)

    def _is_fresh(self) -> bool:
        return self._store.revision == self._revision and self._clock() - self._looked < REFRESH_SECONDS

    def _renew(self) -> None:
        # Before the manifests: what changes between the two is seen again.
        self._revision, self._looked = self._store.revision, self._clock()
        try:
            basis = self._look()
            if basis != self._basis:
                self.current, self._basis = self._source.build(basis.manifests), basis
        except (ModelInvalid, StoreError) as fault:
            log_fault("the router could not be renewed, the old one stays", fault)

    def _look(self) -> _Basis:
        return _Basis(tuple(m for m in self._store.list() if m.base == self._fingerprint), self._source.stamp())


def trained_router(settings: Settings) -> Trained:
    """As the settings have it. Raises RouterError where encoder or parser cannot be loaded."""
    return Trained(
        folder=settings.router,
        encoder=load_encoder(settings.router_encoder),
        parser=find_parser(settings.router_parser),
        tiers=tiers_of(settings),
    )


def tiers_of(settings: Settings) -> Tiers:
    return Tiers(settings.tier_simple, settings.tier_complex)
