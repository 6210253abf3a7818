"""Directories on disk: careful reading of one that somebody else filled, and its replacement in one piece.

Owns links, special files, sizes, the lock and the swap. Knows nothing of manifests or tensors. Called by
`package`, `catalog` and `store`.
"""

import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from adapters_store.errors import PackageInvalid


class FileStamp(NamedTuple):
    """Equal stamps mean an untouched file, as far as the file system can tell without reading it."""

    name: str
    inode: int
    modified_ns: int
    size: int


def list_files(directory: Path) -> tuple[FileStamp, ...]:
    """Every entry by name. Links, folders and devices are refused: a package is plain files in one folder."""
    if directory.is_symlink():
        raise PackageInvalid(directory.name, "the package is a link", "package_link")
    stamps = []
    try:
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            info = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(info.st_mode):
                fault = f"{entry.name} is {_describe(info.st_mode)}, not a plain file"
                raise PackageInvalid(directory.name, fault, "file_special")
            stamps.append(FileStamp(entry.name, info.st_ino, info.st_mtime_ns, info.st_size))
    except OSError as error:
        fault = f"cannot be listed: {error.strerror}"
        raise PackageInvalid(directory.name, fault, "file_unreadable") from error
    return tuple(stamps)


def read_file(path: Path, max_bytes: int) -> bytes:
    """An entry that became a link or a pipe since it was listed is still refused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode):
                fault = f"{path.name} is {_describe(info.st_mode)}, not a plain file"
                raise PackageInvalid(path.parent.name, fault, "file_special")
            if info.st_size > max_bytes:
                fault = f"{path.name} has {info.st_size} bytes, not {max_bytes} at most"
                raise PackageInvalid(path.parent.name, fault, "file_too_large")
            return file.read(max_bytes)
    except OSError as error:
        fault = f"{path.name} cannot be read: {error.strerror}"
        raise PackageInvalid(path.parent.name, fault, "file_unreadable") from error


def digest_of(data: bytes) -> str:
    """sha256 in hexadecimal digits, as manifests have it."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def locked(directory: Path, *, exclusive: bool) -> Iterator[None]:
    """Readers share, whoever replaces something is alone; across processes, and gone with one that dies.

    The lock is on the folder itself, so it also works where nothing can be written.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """A new file; `mode` is cut by the umask, as usual."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Makes the names in it survive a loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_directory(directory: Path, staged: Path) -> None:
    """Moves `staged` to `directory`, and what was there away; a failure leaves what was there."""
    with locked(directory.parent, exclusive=True):
        _settle(directory)
        if directory.exists():
            directory.rename(_previous(directory))
        try:
            staged.rename(directory)
        finally:
            _settle(directory)


def restore_directories(root: Path) -> None:
    """Puts back what a writer that was killed between its two renames had moved away."""
    if any(root.glob(".*.previous")):
        with locked(root, exclusive=True):
            for previous in root.glob(".*.previous"):
                _settle(root / previous.name[1:].removesuffix(".previous"))


def _previous(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.previous")


def _settle(directory: Path) -> None:
    """Puts the previous directory back if nothing took its place; else it is rubbish."""
    previous = _previous(directory)
    if previous.exists() and not directory.exists():
        previous.rename(directory)
    elif previous.exists():
        shutil.rmtree(previous)


def _describe(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    return "a folder" if stat.S_ISDIR(mode) else "a device or pipe"
