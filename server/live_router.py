"""The router of a running server: the one that fits the experts and the training on disk now.

Owns when it is built anew. An expert that was added is routable a few seconds later, and a `hotseat router train` takes
effect without a restart; what cannot be loaded then leaves the old router in its place. Called from threads.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from adapters_store.errors import StoreError
from adapters_store.manifest import Manifest
from router.complexity import Tiers
from router.decision import RouteDecision, RouteQuery
from router.encoder import Encoder, load_encoder
from router.errors import ModelInvalid
from router.model import SETTINGS_FILE, RouterModel, load_model
from router.pipeline import Router
from router.syntax import Parser, find_parser
from server.log import log_fault
from server.settings import Settings

REFRESH_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a router was built from."""

    manifests: tuple[Manifest, ...]
    stamp: tuple[int, int] | None


@dataclass(slots=True)
class LiveRouter:
    manifests: Callable[[], Sequence[Manifest]]
    """The experts that fit the base, read from disk."""
    folder: Path
    encoder: Encoder
    parser: Parser | None = None
    tiers: Tiers = field(default_factory=Tiers)
    clock: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _router: Router = field(init=False)
    _basis: _Basis = field(init=False)
    _checked: float = field(init=False)

    def __post_init__(self) -> None:
        """Raises ModelInvalid: a server does not start with a router that does not fit."""
        self._basis = self._look()
        self._router = self._build(self._basis)
        self._checked = self.clock()

    def route(self, query: RouteQuery) -> RouteDecision:
        return self.current().route(query)

    def current(self) -> Router:
        """At most one caller in REFRESH_SECONDS looks at the disk; the others do not wait for it."""
        if self.clock() - self._checked >= REFRESH_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._checked = self.clock()
                self._lock.release()
        return self._router

    def _refresh(self) -> None:
        try:
            basis = self._look()
            if basis != self._basis:
                self._router, self._basis = self._build(basis), basis
        except (ModelInvalid, StoreError) as fault:
            log_fault("the router could not be renewed, the old one stays", fault)

    def _look(self) -> _Basis:
        return _Basis(tuple(self.manifests()), _stamp(self.folder / SETTINGS_FILE))

    def _build(self, basis: _Basis) -> Router:
        model: RouterModel = load_model(self.folder)
        return Router(basis.manifests, model, self.encoder, self.parser, self.tiers)


def build_router(settings: Settings, manifests: Callable[[], Sequence[Manifest]]) -> LiveRouter:
    """As the settings have it. Raises RouterError where encoder, parser and training do not fit each other."""
    return LiveRouter(
        manifests=manifests,
        folder=settings.router,
        encoder=load_encoder(settings.router_encoder),
        parser=find_parser(settings.router_parser),
        tiers=tiers_of(settings),
    )


def tiers_of(settings: Settings) -> Tiers:
    return Tiers(settings.tier_simple, settings.tier_complex)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size
