"""API keys at rest: a file that holds who may do what, and of each secret only a salted hash.

A token is `hs_<id>_<secret>`: the id finds the entry, the secret proves it. The secret is 256 random bits, so a fast
hash is enough: there is no list of likely ones to try. Knows no HTTP; `security.py` asks, `key_commands.py` writes.
"""

import fcntl
import hashlib
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.settings import ServerError, SettingsInvalid

Scope = Literal["generate", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = ("generate", "metrics", "admin")
"""admin may do what the others may."""

MAX_FILE_BYTES = 4 << 20
_TOKEN = re.compile(r"hs_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class KeysInvalid(ServerError):
    """The file of keys cannot be used; then nobody comes in."""


class KeyRefused(ServerError):
    """No key, or none that opens anything."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request comes from, as far as anybody needs to know."""

    id: str
    """The key's id; empty for everybody where the server has no keys."""
    scopes: frozenset[Scope]
    experts: frozenset[str] | None = None
    """The only experts that it may use, beside the base; None is all."""
    max_concurrent: int | None = None

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def may_use(self, expert: str) -> bool:
        return self.experts is None or expert in self.experts


ANYBODY = Caller("", frozenset({"generate", "metrics"}))
"""Who calls a server without keys: it listens on loopback, and administers nothing."""


class KeyEntry(BaseModel):
    """One key as it lies in the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    name: str = Field(pattern=_NAME)
    salt: str = Field(pattern=r"^[0-9a-f]{32}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: list[Scope] = Field(min_length=1)
    experts: list[str] | None = None
    max_concurrent: int | None = Field(default=None, ge=1)
    created: str

    @property
    def caller(self) -> Caller:
        experts = None if self.experts is None else frozenset(self.experts)
        return Caller(self.id, frozenset(self.scopes), experts, self.max_concurrent)


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Literal[1] = 1
    keys: list[KeyEntry] = Field(default_factory=list)


class KeyFile:
    """The keys of one file, read again whenever it has changed, so that a revoked key is refused at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, KeyEntry] = {}
        self._seen: tuple[int, ...] | None = None
        # Compared with where an id is unknown, so that this takes as long as a wrong secret.
        self._nobody = (secrets.token_hex(16), secrets.token_hex(32))

    def entries(self) -> tuple[KeyEntry, ...]:
        """All keys, oldest first. Raises KeysInvalid."""
        self._refresh()
        return tuple(self._entries.values())

    def caller(self, token: str) -> Caller:
        """Whose token this is. Raises KeyRefused, or KeysInvalid where the file cannot be read."""
        self._refresh()
        parts = _TOKEN.fullmatch(token)
        entry = self._entries.get(parts[1]) if parts else None
        salt, expected = (entry.salt, entry.hash) if entry else self._nobody
        is_right = hmac.compare_digest(hash_of(parts[2] if parts else "", salt), expected)
        if entry is None or not is_right:
            raise KeyRefused("the API key is not known here; `hotseat keys list` shows those that are")
        return entry.caller

    def add(
        self,
        name: str,
        scopes: Iterable[Scope],
        experts: Iterable[str] | None = None,
        max_concurrent: int | None = None,
    ) -> str:
        """Write a new key; returns its token, which is nowhere else. Raises KeysInvalid."""
        identity, secret, salt = secrets.token_hex(6), secrets.token_urlsafe(32), secrets.token_hex(16)
        try:
            entry = KeyEntry(
                id=identity,
                name=name,
                salt=salt,
                hash=hash_of(secret, salt),
                scopes=sorted(set(scopes), key=SCOPES.index),
                experts=None if experts is None else sorted(set(experts)),
                max_concurrent=max_concurrent,
                created=date.today().isoformat(),
            )
        except ValidationError as error:
            raise KeysInvalid(_first_fault(error)) from error

        def added(entries: list[KeyEntry]) -> list[KeyEntry]:
            if any(name == known.name for known in entries):
                raise KeysInvalid(f"there is a key with the name {name!r} already; revoke it or choose another name")
            return [*entries, entry]

        self._change(added)
        return f"hs_{identity}_{secret}"

    def revoke(self, key: str) -> KeyEntry:
        """Take out the key of this id or name. Raises KeysInvalid where there is none."""
        gone: list[KeyEntry] = []

        def without(entries: list[KeyEntry]) -> list[KeyEntry]:
            gone.extend(entry for entry in entries if key in (entry.id, entry.name))
            if not gone:
                raise KeysInvalid(f"{self.path} holds no key with the id or name {key!r}")
            return [entry for entry in entries if entry not in gone]

        self._change(without)
        return gone[0]

    def _refresh(self) -> None:
        """Read the file unless it is the one that was read last. What cannot be read lets nobody in."""
        try:
            found = self.path.stat()
            state = (found.st_ino, found.st_mtime_ns, found.st_size)
            if state == self._seen:
                return
            self._entries, self._seen = {}, None
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise KeysInvalid(f"{self.path} may be written by others than its owner: chmod 600 {self.path}")
            if found.st_size > MAX_FILE_BYTES:
                raise KeysInvalid(f"{self.path} has {found.st_size} bytes, the limit is {MAX_FILE_BYTES}")
            content = _Content.model_validate_json(self.path.read_bytes())
        except OSError as error:
            self._entries, self._seen = {}, None
            raise KeysInvalid(f"cannot read the API keys in {self.path}: {error.strerror}") from error
        except ValidationError as error:
            raise KeysInvalid(f"{self.path} is not a file of API keys: {_first_fault(error)}") from error
        self._entries, self._seen = {entry.id: entry for entry in content.keys}, state

    def _change(self, change: Callable[[list[KeyEntry]], list[KeyEntry]]) -> None:
        """Replace the file by a changed one, whole or not at all; processes that do so take turns."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.parent):
                entries = list(self.entries()) if self.path.exists() else []
                content = _Content(keys=change(entries))
                _replace(self.path, content.model_dump_json(indent=2).encode() + b"\n")
        except OSError as error:
            raise KeysInvalid(f"cannot write {self.path}: {error.strerror}") from error


def hash_of(secret: str, salt: str) -> str:
    """What lies in the file for a secret."""
    return hashlib.sha256(bytes.fromhex(salt) + secret.encode()).hexdigest()


def open_keys(path: Path) -> KeyFile:
    """For a server: raises SettingsInvalid where the file lets nobody in."""
    keys = KeyFile(path)
    try:
        entries = keys.entries()
    except KeysInvalid as error:
        raise SettingsInvalid(str(error)) from error
    if not entries:
        raise SettingsInvalid(f"{path} holds no API key: `hotseat keys add NAME --file {path}` makes one")
    return keys


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, content: bytes) -> None:
    """By a temporary file beside it, which only its owner may read (so it is made)."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _first_fault(error: ValidationError) -> str:
    """Where and what, without the value: it may be a secret."""
    fault = error.errors()[0]
    return f"{'.'.join(str(step) for step in fault['loc']) or 'the file'}: {fault['msg']}"
