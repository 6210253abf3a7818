"""The store: experts by name, in host memory, for as long as somebody uses them.

Owns the way from a name to a leased HostAdapter. Knows no device and no slot: what sits on the device is the
engine's. Called by the server, from any thread; a fetch that loads blocks its caller.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters_store.cache import AdapterCache, Lease, Resident, StoreStats
from adapters_store.catalog import Catalog, Listing
from adapters_store.errors import ExpertNotFound, FaultCode, PackageInvalid
from adapters_store.files import locked, restore_directories
from adapters_store.index import Index
from adapters_store.manifest import Manifest
from adapters_store.package import HostAdapter, read_package
from adapters_store.policy import LENIENT, Policy


@dataclass(frozen=True, slots=True)
class ExpertState:
    """An expert as the catalogue has it: exactly one of `manifest` and `fault` is set."""

    name: str
    directory: Path
    manifest: Manifest | None
    fault: str | None
    code: FaultCode | None
    generation: str | None
    standby: str | None
    signer: bytes | None
    aliases: tuple[str, ...]
    is_installed: bool
    """False for a plain directory of the root."""
    is_pinned: bool


class AdapterStore:
    """Experts under `root`; `capacity_bytes` bounds all their tensors in host memory, `policy` what is taken.

    An expert that is replaced on disk, by whatever process, is a new generation from the next fetch on; a lease keeps
    the old one. `on_unload` is told, from any thread, each generation that somebody unloaded, removed or replaced, so
    that others let go of it too; leases on it may remain. `on_pins` is told the pinned names whenever they change.
    """

    def __init__(
        self,
        root: Path,
        capacity_bytes: int,
        read: Callable[[Path], HostAdapter] | None = None,
        policy: Policy = LENIENT,
        on_unload: Callable[[str], object] | None = None,
        on_pins: Callable[[frozenset[str]], object] | None = None,
    ) -> None:
        self._root = root
        self._catalog = Catalog(root, policy)
        self._cache = AdapterCache(capacity_bytes)
        self._read = read or (lambda directory: read_package(directory, policy))
        self.policy = policy
        self._on_unload = on_unload or (lambda _: None)
        self._on_pins = on_pins or (lambda _: None)
        self._followed = Index(revision=-1)
        restore_directories(root)

    @property
    def root(self) -> Path:
        return self._root

    def list(self) -> tuple[Manifest, ...]:
        """The experts that can be used, by name; what is wrong with the others is in `faults`."""
        return tuple(listing.manifest for listing in self._scan().values() if listing.manifest is not None)

    @property
    def faults(self) -> dict[str, str]:
        return {name: listing.fault for name, listing in self._scan().items() if listing.fault is not None}

    def states(self) -> tuple[ExpertState, ...]:
        """Every expert by name, the broken ones too."""
        with locked(self._root, exclusive=False):
            index = self._catalog.index()
            return tuple(
                ExpertState(
                    name=name,
                    directory=listing.directory,
                    manifest=listing.manifest,
                    fault=listing.fault,
                    code=listing.code,
                    generation=listing.generation,
                    standby=index.experts[name].standby if name in index.experts else None,
                    signer=listing.signer,
                    aliases=tuple(sorted(alias for alias, target in index.aliases.items() if target == name)),
                    is_installed=name in index.experts,
                    is_pinned=name in index.pins,
                )
                for name, listing in self._catalog.scan().items()
            )

    def state(self, name: str) -> ExpertState:
        """Of one expert, by name or alias, broken or not. Raises ExpertNotFound."""
        states = self.states()
        found = next((state for state in states if name == state.name or name in state.aliases), None)
        if found is None:
            raise ExpertNotFound(name, (state.name for state in states))
        return found

    @property
    def revision(self) -> int:
        """Grows with every change of the index, by whatever process."""
        return self._catalog.index().revision

    def get(self, name: str) -> Manifest:
        """Raises ExpertNotFound, or PackageInvalid for a broken one."""
        with locked(self._root, exclusive=False):
            return self._usable(name)[1]

    def fetch(self, name: str) -> Lease:
        """Raises ExpertNotFound, PackageInvalid, or StoreFull if what could make room is leased or pinned."""
        # Nobody replaces the package between the look at it and the reading of its files.
        with locked(self._root, exclusive=False):
            self._follow(self._catalog.index())
            listing, manifest = self._usable(name)
            content = (listing.directory, listing.stamps)
            try:
                return self._cache.acquire(
                    manifest.name, content, manifest.tensor_bytes, lambda: self._read(listing.directory)
                )
            except PackageInvalid as fault:
                self._catalog.condemn(manifest.name, listing, fault)
                raise

    def unload(self, name: str) -> bool:
        """Let go of it in host memory, pinned or not: at once, or with its last lease. Was it there?"""
        was_there = self._cache.drop(self._catalog.index().resolve(name))
        listing = self._catalog.look_up(name)
        if listing is not None and listing.generation is not None:
            self._on_unload(listing.generation)
        return was_there

    def residents(self) -> tuple[Resident, ...]:
        """What host memory holds, retired generations that are still leased included."""
        return self._cache.residents()

    def stats(self) -> StoreStats:
        return self._cache.stats()

    def _follow(self, index: Index) -> None:
        """What a change has removed or replaced leaves host memory now, or with its last lease."""
        before = self._followed
        if index.revision == before.revision:
            return
        self._followed, self._cache.pinned = index, index.pins
        if index.pins != before.pins:
            self._on_pins(index.pins)
        gone = before.active - index.active
        for resident in self._cache.residents():
            if not (resident.is_retired or self._is_current(index, resident)):
                self._cache.drop(resident.name)
                gone |= {resident.generation} if resident.generation else set()
        for generation in gone:
            self._on_unload(generation)

    def _is_current(self, index: Index, resident: Resident) -> bool:
        record = index.experts.get(resident.name)
        if record is None:
            return (self._root / resident.name).is_dir()
        return resident.generation in (None, record.active)

    def _scan(self) -> dict[str, Listing]:
        with locked(self._root, exclusive=False):
            self._follow(self._catalog.index())
            return self._catalog.scan()

    def _usable(self, name: str) -> tuple[Listing, Manifest]:
        listing = self._catalog.look_up(name)
        if listing is None:
            known = [name for name, other in self._catalog.scan().items() if other.manifest is not None]
            raise ExpertNotFound(name, known)
        if listing.manifest is None:
            raise PackageInvalid(name, listing.fault or "unknown", listing.code or "package_invalid")
        return listing, listing.manifest
