"""Archives that somebody else packed: tar, with or without gzip, and zip, read into memory and judged there.

Owns what an entry may be: a plain file under a plain relative path, once, within the limits. Sizes are counted as bytes
come out, so a declared size need not be true. Nothing is written anywhere. Called by `importing`.
"""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from adapters_store.errors import FaultCode, PackageInvalid

_READ_BYTES = 1 << 20
_TAR_OVERHEAD_BYTES = 4 << 20
"""Headers and padding."""
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of the others, zipfile unpacks a whole chunk at once, however much that becomes."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    max_entries: int = 256
    """Folders included."""
    max_bytes: int = 1 << 30
    """Of all content together."""


def read_archive(path: Path, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    """Its files by path. Raises PackageInvalid for all of it if one entry is refused, and names the entry."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise PackageInvalid(path.name, f"cannot be read: {error.strerror}", "file_unreadable") from error
    reader = _Reader(path.name, limits or ArchiveLimits())
    try:
        with file:
            head = file.read(4)
            file.seek(0)
            if head.startswith(b"PK"):
                return reader.collect(reader.zip_entries(file))
            stream: IO[bytes] = gzip.open(file) if head.startswith(b"\x1f\x8b") else file  # type: ignore[assignment]
            return reader.collect(reader.tar_entries(stream))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile) as error:
        raise PackageInvalid(path.name, f"it is no readable archive: {error}", "archive_invalid") from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, OverflowError) as error:
        # NotImplementedError is a RuntimeError; an OSError is mostly an offset that leads before the file's beginning.
        raise PackageInvalid(path.name, f"the archive is damaged: {error}", "archive_invalid") from error


@dataclass(frozen=True, slots=True)
class _Entry:
    path: str
    size: int
    """As declared."""
    content: IO[bytes] | None
    """None for a folder."""


class _Bounded(io.RawIOBase):
    """A stream that refuses to be longer than it may: what unpacks without end ends here."""

    def __init__(self, stream: IO[bytes], name: str, max_bytes: int) -> None:
        self._stream, self._name, self._max_bytes, self._count = stream, name, max_bytes, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._stream.read(min(size, _READ_BYTES) if size >= 0 else _READ_BYTES)
        self._count += len(chunk)
        if self._count > self._max_bytes:
            fault = f"it unpacks to more than the limit of {self._max_bytes} bytes"
            raise PackageInvalid(self._name, fault, "archive_too_large")
        return chunk


class _Reader:
    def __init__(self, name: str, limits: ArchiveLimits) -> None:
        self._name, self._limits = name, limits

    def collect(self, entries: Iterator[_Entry]) -> dict[str, bytes]:
        files: dict[str, bytes] = {}
        seen: set[str] = set()
        left = self._limits.max_bytes
        for count, entry in enumerate(entries, 1):
            if count > self._limits.max_entries:
                self._refuse("archive_too_large", f"it has more than {self._limits.max_entries} entries")
            path = self._checked_path(entry.path, seen)
            if entry.size > left:
                self._refuse("archive_too_large", f"{path} declares {entry.size} bytes, {left} are left of the limit")
            if entry.content is not None:
                files[path] = self._content(path, entry, left)
                left -= len(files[path])
        return files

    def tar_entries(self, stream: IO[bytes]) -> Iterator[_Entry]:
        bounded = _Bounded(stream, self._name, self._limits.max_bytes + _TAR_OVERHEAD_BYTES)
        with tarfile.open(fileobj=bounded, mode="r|", errorlevel=2) as archive:
            for member in archive:
                if not (member.isdir() or member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)) or member.issparse():
                    self._refuse("archive_special", f"{member.name!r} is a link or a special file, not a plain one")
                content = None if member.isdir() else archive.extractfile(member)
                yield _Entry(member.name.rstrip("/") if member.isdir() else member.name, member.size, content)

    def zip_entries(self, file: IO[bytes]) -> Iterator[_Entry]:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if mode and (mode & 0o170000) not in (0, 0o100000, 0o040000):
                    self._refuse("archive_special", f"{member.filename!r} is a link or a special file, not a plain one")
                if member.flag_bits & 1:
                    self._refuse("archive_invalid", f"{member.filename!r} is encrypted")
                if member.compress_type not in _ZIP_METHODS:
                    fault = (
                        f"{member.filename!r} is compressed by method {member.compress_type}, not deflated or stored"
                    )
                    self._refuse("archive_invalid", fault)
                if member.is_dir():
                    yield _Entry(member.filename.rstrip("/"), 0, None)
                    continue
                with archive.open(member) as content:
                    yield _Entry(member.filename, member.file_size, content)

    def _checked_path(self, path: str, seen: set[str]) -> str:
        """As the archive has it, a leading `./` aside; equal but for case counts as the same."""
        path = path.removeprefix("./")
        parts = path.split("/")
        if path != "." and (
            any(part in ("", ".", "..") for part in parts) or "\\" in path or ":" in path or not path.isprintable()
        ):
            self._refuse("archive_path", f"{path!r} is no plain path inside the archive")
        if path.casefold() in seen:
            self._refuse("archive_duplicate", f"{path!r} occurs twice")
        seen.add(path.casefold())
        return path

    def _content(self, path: str, entry: _Entry, left: int) -> bytes:
        assert entry.content is not None, "only files have content"
        content = bytearray()
        while chunk := entry.content.read(min(_READ_BYTES, left - len(content) + 1)):
            content += chunk
            if len(content) > left:
                self._refuse("archive_too_large", f"{path} has more than the {left} bytes that are left of the limit")
        if len(content) != entry.size:
            self._refuse("archive_invalid", f"{path} has {len(content)} bytes and declares {entry.size}")
        return bytes(content)

    def _refuse(self, code: FaultCode, fault: str) -> NoReturn:
        raise PackageInvalid(self._name, fault, code)
