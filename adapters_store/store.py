"""The store: experts by name, in host memory, for as long as somebody uses them.

Owns the way from a name to a leased HostAdapter. Knows no device and no slot: what sits on the device is the
engine's. Called by the server, from any thread; a fetch that loads blocks its caller.
"""

from collections.abc import Callable
from pathlib import Path

from adapters_store.cache import AdapterCache, Lease, StoreStats
from adapters_store.catalog import Catalog, Listing
from adapters_store.errors import ExpertNotFound, PackageInvalid
from adapters_store.files import locked, restore_directories
from adapters_store.manifest import Manifest
from adapters_store.package import HostAdapter, read_package


class AdapterStore:
    """Experts under `root`, one directory each; `capacity_bytes` bounds all their tensors in host memory.

    A package that is replaced on disk is a new generation from the next fetch on; a lease keeps the old one.
    """

    def __init__(self, root: Path, capacity_bytes: int, read: Callable[[Path], HostAdapter] = read_package) -> None:
        self._root = root
        self._catalog = Catalog(root)
        self._cache = AdapterCache(capacity_bytes)
        self._read = read
        restore_directories(root)

    def list(self) -> tuple[Manifest, ...]:
        """The experts that can be used, by name; what is wrong with the others is in `faults`."""
        return tuple(listing.manifest for listing in self._scan().values() if listing.manifest is not None)

    @property
    def faults(self) -> dict[str, str]:
        return {name: listing.fault for name, listing in self._scan().items() if listing.fault is not None}

    def get(self, name: str) -> Manifest:
        """Raises ExpertNotFound, or PackageInvalid for a broken one."""
        with locked(self._root, exclusive=False):
            return self._usable(name)[1]

    def fetch(self, name: str) -> Lease:
        """Raises ExpertNotFound, PackageInvalid, or StoreFull if what could make room is leased."""
        # Nobody replaces the package between the look at it and the reading of its files.
        with locked(self._root, exclusive=False):
            listing, manifest = self._usable(name)
            try:
                return self._cache.acquire(
                    name, listing.stamps, manifest.tensor_bytes, lambda: self._read(self._root / name)
                )
            except PackageInvalid as fault:
                self._catalog.condemn(name, listing, fault.fault)
                raise

    def stats(self) -> StoreStats:
        return self._cache.stats()

    def _scan(self) -> dict[str, Listing]:
        with locked(self._root, exclusive=False):
            return self._catalog.scan()

    def _usable(self, name: str) -> tuple[Listing, Manifest]:
        listing = self._catalog.look_up(name)
        if listing is None:
            known = [name for name, other in self._catalog.scan().items() if other.manifest is not None]
            raise ExpertNotFound(name, known)
        if listing.manifest is None:
            raise PackageInvalid(name, listing.fault or "unknown")
        return listing, listing.manifest
