"""Which experts there are, and which of them are broken.

Owns the view over the index of installed experts and the plain directories beside it; an installed expert wins over a
directory of its name. Knows manifests, not tensors. Called by `store`, from any thread.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from adapters_store.errors import FaultCode, PackageInvalid, StoreError
from adapters_store.files import FileStamp, list_files
from adapters_store.index import Index, IndexFile, package_directory
from adapters_store.manifest import NAME, Manifest
from adapters_store.package import describe_package
from adapters_store.policy import LENIENT, Policy


@dataclass(frozen=True, slots=True)
class Listing:
    """An expert as found on disk: exactly one of `manifest` and `fault` is set."""

    directory: Path
    stamps: tuple[FileStamp, ...]  # identifies the content, as far as can be told without reading it
    manifest: Manifest | None = None
    generation: str | None = None
    signer: bytes | None = None
    fault: str | None = None
    code: FaultCode | None = None


class Catalog:
    def __init__(self, root: Path, policy: Policy = LENIENT) -> None:
        if not root.is_dir():
            raise StoreError(f"there is no directory of experts at {str(root)!r}")
        self._root, self._policy = root, policy
        self._index = IndexFile(root)
        self._lock = Lock()
        self._listings: dict[str, Listing] = {}  # what was parsed stays good while the stamps do

    def index(self) -> Index:
        """As it is now, whoever changed it."""
        return self._index.read()

    def scan(self) -> dict[str, Listing]:
        """By name, broken ones with their fault; hidden entries and plain files are no packages."""
        plain = {entry.name for entry in self._root.iterdir() if entry.is_dir() or entry.is_symlink()}
        index = self.index()
        names = sorted({name for name in plain if not name.startswith(".")} | index.experts.keys())
        return {name: self._look_at(index, name) or self._misnamed(name) for name in names}

    def look_up(self, name: str) -> Listing | None:
        """By name or alias; None if there is none. `name` may come from a client: no path until it is a name."""
        index = self.index()
        return self._look_at(index, index.resolve(name))

    def condemn(self, name: str, listing: Listing, fault: PackageInvalid) -> None:
        """For what only reading the content can find; holds until something in the directory changes."""
        with self._lock:
            self._listings[name] = Listing(listing.directory, listing.stamps, fault=fault.fault, code=fault.code)

    def _look_at(self, index: Index, name: str) -> Listing | None:
        if not NAME.fullmatch(name):
            return None
        record = index.experts.get(name)
        directory = self._root / name if record is None else package_directory(self._root, name, record.active)
        if record is None and not (directory.is_dir() or directory.is_symlink()):
            return None
        try:
            stamps = list_files(directory)
            known = self._listings.get(name)
            if known is not None and (known.directory, known.stamps) == (directory, stamps):
                return known
            card = describe_package(directory, self._policy)
        except PackageInvalid as error:
            return Listing(directory, (), fault=error.fault, code=error.code)
        listing = Listing(directory, stamps, card.manifest, card.generation, card.signer)
        with self._lock:
            self._listings[name] = listing
        return listing

    def _misnamed(self, name: str) -> Listing:
        fault = f"the name of its directory does not match {NAME.pattern}"
        return Listing(self._root / name, (), fault=fault, code="name_invalid")
