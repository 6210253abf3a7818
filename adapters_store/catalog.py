"""Which experts lie on disk, and which of them are broken.

Owns the scan of the root. Knows manifests, not tensors. Called by `store`, from any thread.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from adapters_store.errors import PackageInvalid, StoreError
from adapters_store.files import FileStamp, list_files
from adapters_store.manifest import NAME, Manifest
from adapters_store.package import read_manifest


@dataclass(frozen=True, slots=True)
class Listing:
    """An expert as found on disk: exactly one of `manifest` and `fault` is set."""

    stamps: tuple[FileStamp, ...]  # identifies the content, as far as can be told without reading it
    manifest: Manifest | None = None
    fault: str | None = None


class Catalog:
    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise StoreError(f"there is no directory of experts at {str(root)!r}")
        self._root = root
        self._lock = Lock()
        self._listings: dict[str, Listing] = {}  # what was parsed stays good while the stamps do

    def scan(self) -> dict[str, Listing]:
        """By name, broken ones with their fault; hidden entries and plain files are no packages."""
        names = sorted(entry.name for entry in self._root.iterdir() if entry.is_dir() or entry.is_symlink())
        misnamed = Listing((), fault=f"the name of its directory does not match {NAME.pattern}")
        return {name: self.look_up(name) or misnamed for name in names if not name.startswith(".")}

    def look_up(self, name: str) -> Listing | None:
        """None if there is none. `name` may come from a client: it is no path until it is a name."""
        directory = self._root / name
        if not NAME.fullmatch(name) or not (directory.is_dir() or directory.is_symlink()):
            return None
        try:
            stamps = list_files(directory)
            known = self._listings.get(name)
            if known is not None and known.stamps == stamps:
                return known
            listing = Listing(stamps, manifest=read_manifest(directory))
        except PackageInvalid as fault:
            return Listing((), fault=fault.fault)
        with self._lock:
            self._listings[name] = listing
        return listing

    def condemn(self, name: str, listing: Listing, fault: str) -> None:
        """For what only reading the content can find; holds until something in the directory changes."""
        with self._lock:
            self._listings[name] = Listing(listing.stamps, fault=fault)
