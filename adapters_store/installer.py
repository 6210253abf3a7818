"""Changes of the catalogue: install, replace, swap, remove, alias, pin. Each happens as a whole or not at all.

    .catalog/index.json                  which generation serves under which name: the one place that decides
    .catalog/packages/<generation>/<name>   immutable, written and checked before the index names it
    .catalog/staging/                    what is being written; swept when its writer is gone

A process that is killed at any moment leaves the old index or the new one; what it left besides is swept by the next
change. Experts that lie in the root as plain directories stay where they are until something takes their name.
Knows no leases: whoever still answers with an old generation holds it in memory. Called by the server's commands.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adapters_store.errors import (
    ExpertNotFound,
    FaultCode,
    GenerationConflict,
    ManifestInvalid,
    NameTaken,
    NoStandby,
    PackageInvalid,
    StoreError,
    StoreReadOnly,
)
from adapters_store.files import list_files, locked, read_file, sync_directory, write_durably
from adapters_store.index import CATALOG_DIR, Index, IndexFile, Record, package_directory
from adapters_store.manifest import NAME, PACKAGE_FILES, SIGNATURE_FILE, parse_manifest
from adapters_store.package import MANIFEST_FILE, describe_package, read_package
from adapters_store.policy import LENIENT, Policy

ANY = "any"
"""In place of an expected generation: whatever is there."""


@dataclass(frozen=True, slots=True)
class Change:
    name: str
    generation: str
    previous: str | None
    """The generation that served before; None for a new name."""


def read_content(directory: Path, policy: Policy = LENIENT) -> dict[str, bytes]:
    """All files of a package in any directory, by name, within the policy's size; nothing is checked beyond that."""
    content, left = {}, policy.max_package_bytes
    for stamp in list_files(directory):
        content[stamp.name] = read_file(directory / stamp.name, left)
        left -= stamp.size
    return content


class Installer:
    """Raises StoreError where the root cannot be written. Safe beside other processes and threads."""

    def __init__(self, root: Path, policy: Policy = LENIENT) -> None:
        if not root.is_dir():
            raise StoreError(f"there is no directory of experts at {str(root)!r}")
        self._root, self._policy = root, policy
        self._catalog = root / CATALOG_DIR
        self._index = IndexFile(root)

    def install(self, content: Mapping[str, bytes], expected: str | None = ANY) -> Change:
        """Check a package and let its name mean it from now on; what served before becomes the standby.

        `expected` is the generation that must serve now, None if there must be none. Raises GenerationConflict if
        another does, PackageInvalid for what could not be served, NameTaken if the name is an alias.
        """
        name = name_of(content)
        with self._staging() as staging:
            staged = staging / name
            staged.mkdir()
            for file, data in content.items():
                write_durably(staged / _plain(name, file), data)
            generation = read_package(staged, self._policy).generation
            sync_directory(staged)
            sync_directory(staging)
            with self._changing() as index:
                if name in index.aliases:
                    raise NameTaken(name, f"an alias of {index.aliases[name]!r}")
                previous = self._active(index, name)
                _compare(name, expected, previous)
                if previous != generation:
                    self._keep(staging, name, generation)
                    standby = self._adopt(name) if name not in index.experts else previous
                    self._commit(index.with_expert(name, Record(generation, standby)))
        return Change(name, generation, previous)

    def swap(self, name: str, expected: str | None = ANY) -> Change:
        """Let the standby serve, and what serves stand by."""
        with self._changing() as index:
            name = self._known(index, name)
            record = index.experts.get(name)
            if record is None or record.standby is None:
                raise NoStandby(name)
            _compare(name, expected, record.active)
            read_package(package_directory(self._root, name, record.standby), self._policy)
            self._commit(index.with_expert(name, Record(record.standby, record.active)))
        return Change(name, record.standby, record.active)

    def remove(self, name: str, expected: str | None = ANY) -> None:
        """Forget the name, its standby and its aliases; an alias is forgotten alone. Leases keep what they hold."""
        with self._changing() as index:
            if name in index.aliases:
                self._commit(replace(index, aliases={a: n for a, n in index.aliases.items() if a != name}))
                return
            name = self._known(index, name)
            _compare(name, expected, self._active(index, name))
            if os.path.lexists(self._root / name):
                # Away before the index changes: a plain directory must not reappear under a name that is gone.
                self._discard(self._root / name)
            self._commit(index.without_expert(name))

    def alias(self, alias: str, name: str) -> None:
        """Another name for an expert; moves an alias that exists. Raises NameTaken for the name of an expert."""
        if not NAME.fullmatch(alias):
            raise StoreError(f"the alias {alias!r} does not match {NAME.pattern}")
        with self._changing() as index:
            name = self._known(index, name)
            if alias in index.experts or (self._root / alias).is_dir():
                raise NameTaken(alias, "an expert")
            self._commit(replace(index, aliases={**index.aliases, alias: name}))

    def pin(self, name: str, is_pinned: bool = True) -> None:
        """Keep an expert in host memory once it is there, or no longer."""
        with self._changing() as index:
            name = self._known(index, name)
            pins = index.pins | {name} if is_pinned else index.pins - {name}
            if pins != index.pins:
                self._commit(replace(index, pins=pins))

    def _known(self, index: Index, name: str) -> str:
        name = index.resolve(name)
        place = self._root / name
        if name in index.experts or (NAME.fullmatch(name) and (place.is_dir() or place.is_symlink())):
            return name
        plain = (path.name for path in self._root.iterdir() if path.is_dir() and not path.name.startswith("."))
        raise ExpertNotFound(name, {*index.experts, *plain})

    def _active(self, index: Index, name: str) -> str | None:
        """The generation that is there now, whatever the policy says of it; a broken plain directory has none."""
        if name in index.experts:
            return index.experts[name].active
        try:
            return describe_package(self._root / name).generation
        except PackageInvalid:
            return None

    def _adopt(self, name: str) -> str | None:
        """Copies a plain directory into the catalogue, so that it can stand by; None if there is none to serve."""
        try:
            generation = read_package(self._root / name).generation
        except PackageInvalid:
            return None
        copy = Path(tempfile.mkdtemp(dir=self._catalog / "staging"))
        shutil.copytree(self._root / name, copy / name)
        self._keep(copy, name, generation)
        return generation

    def _keep(self, staging: Path, name: str, generation: str) -> None:
        """Moves a checked package to its place, unless a whole one is there; a broken one makes way."""
        place = package_directory(self._root, name, generation)
        if place.parent.exists():
            try:
                read_package(place)
            except PackageInvalid:
                self._discard(place.parent)
            else:
                return
        staging.rename(place.parent)
        sync_directory(place.parent.parent)

    def _discard(self, directory: Path) -> None:
        """Away in one step, gone with the next sweep."""
        directory.rename(Path(tempfile.mkdtemp(dir=self._catalog / "staging")) / directory.name)

    def _commit(self, index: Index) -> None:
        self._index.write(index)
        for package in (self._catalog / "packages").iterdir():
            if package.name not in index.generations:
                shutil.rmtree(package)
        self._sweep()

    @contextmanager
    def _changing(self) -> Iterator[Index]:
        """The index, with nobody reading or writing packages meanwhile."""
        try:
            with locked(self._root, exclusive=True):
                for part in ("packages", "staging"):
                    (self._catalog / part).mkdir(parents=True, exist_ok=True)
                yield self._index.read()
        except OSError as error:
            raise StoreReadOnly(str(self._root), str(error.strerror)) from error

    @contextmanager
    def _staging(self) -> Iterator[Path]:
        """A directory of our own, locked for as long as we live, so that a sweep can tell it from rubbish."""
        with self._changing():
            self._sweep()
            staging = Path(tempfile.mkdtemp(dir=self._catalog / "staging"))
            descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield staging
        except OSError as error:
            raise StoreReadOnly(str(self._root), str(error.strerror)) from error
        finally:
            try:
                shutil.rmtree(staging, ignore_errors=True)
            finally:
                os.close(descriptor)

    def _sweep(self) -> None:
        """Call with the root locked: a new staging directory is locked before anybody else may sweep."""
        for directory in (self._catalog / "staging").iterdir():
            try:
                descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:  # its owner has just tidied up
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)


def name_of(content: Mapping[str, bytes]) -> str:
    """The name in a package's manifest; raises PackageInvalid."""
    if MANIFEST_FILE not in content:
        raise PackageInvalid("?", f"there is no {MANIFEST_FILE}", "manifest_missing")
    try:
        return parse_manifest(content[MANIFEST_FILE]).name
    except ManifestInvalid as error:
        raise PackageInvalid("?", str(error), error.code) from error


def _plain(name: str, file: str) -> str:
    """A file's name, before it becomes a path: one of a closed list."""
    if file not in (*PACKAGE_FILES, MANIFEST_FILE, SIGNATURE_FILE):
        code: FaultCode = "archive_path" if "/" in file or file in ("", ".", "..") else "file_unlisted"
        raise PackageInvalid(name, f"{file!r} is no file of a package", code)
    return file


def _compare(name: str, expected: str | None, found: str | None) -> None:
    if expected != ANY and expected != found:
        raise GenerationConflict(name, expected, found)
