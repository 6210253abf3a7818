"""The index of installed experts: which generation serves under which name.

Owns one small file, replaced as a whole, so that any change of names, generations, aliases and pins is there or not
there. Knows no packages. `installer` writes it under the root's lock; `catalog` reads it from any process.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from adapters_store.errors import ManifestInvalid, StoreError
from adapters_store.files import sync_directory, write_durably
from adapters_store.json_node import HEX_32, JsonNode, parse_json
from adapters_store.manifest import NAME

CATALOG_DIR = ".catalog"
_INDEX_FILE = "index.json"
_INDEX_VERSION = 1
_MAX_EXPERTS = 1 << 20


class Record(NamedTuple):
    active: str
    standby: str | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """Experts by name, aliases to names; pins may also name experts that lie in the root as they are."""

    revision: int = 0
    experts: Mapping[str, Record] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    pins: frozenset[str] = frozenset()

    def resolve(self, name: str) -> str:
        """The expert's own name; a name that is no alias is its own."""
        return self.aliases.get(name, name)

    @property
    def active(self) -> frozenset[str]:
        """The generations that serve."""
        return frozenset(record.active for record in self.experts.values())

    @property
    def generations(self) -> frozenset[str]:
        """Every one that something still refers to."""
        return frozenset(generation for record in self.experts.values() for generation in record if generation)

    def with_expert(self, name: str, record: Record) -> "Index":
        return replace(self, experts={**self.experts, name: record})

    def without_expert(self, name: str) -> "Index":
        """Nothing of the name stays: its aliases and its pin go too."""
        return replace(
            self,
            experts={key: record for key, record in self.experts.items() if key != name},
            aliases={alias: target for alias, target in self.aliases.items() if target != name},
            pins=self.pins - {name},
        )


class IndexFile:
    """The file under an experts' root. It is parsed only when its bytes are others: no stamp of a file that is replaced
    within a tick of the clock could be trusted.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / CATALOG_DIR / _INDEX_FILE
        self._known: tuple[bytes | None, Index] = (None, Index())

    def read(self) -> Index:
        """Raises StoreError for a damaged file: serving half of a catalogue would be worse."""
        try:
            raw = self._path.read_bytes()
            known, index = self._known
            if raw == known:
                return index
            index = _parse(raw)
        except FileNotFoundError:
            return Index()
        except (OSError, ManifestInvalid) as error:
            fault = error.fault if isinstance(error, ManifestInvalid) else error.strerror
            raise StoreError(f"the index of experts {str(self._path)!r} cannot be read: {fault}") from error
        self._known = (raw, index)
        return index

    def write(self, index: Index) -> Index:
        """Call with the root locked. The file holds the old index or the new one, whatever happens."""
        index = replace(index, revision=index.revision + 1)
        staged = self._path.with_suffix(".new")
        staged.unlink(missing_ok=True)  # of a writer that was killed
        write_durably(staged, _to_json(index))
        os.replace(staged, self._path)
        sync_directory(self._path.parent)
        return index


def package_directory(root: Path, name: str, generation: str) -> Path:
    """Where an installed package lies, whole and for good."""
    return root / CATALOG_DIR / "packages" / generation / name


def package_directories(root: Path) -> dict[str, Path]:
    """Of every expert under `root` by name: the generation that serves, else the plain directory."""
    plain = {path.name: path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    installed = IndexFile(root).read().experts.items()
    return dict(sorted((plain | {name: package_directory(root, name, r.active) for name, r in installed}).items()))


def _to_json(index: Index) -> bytes:
    members = {
        "index_version": _INDEX_VERSION,
        "revision": index.revision,
        "experts": {name: record._asdict() for name, record in sorted(index.experts.items())},
        "aliases": dict(sorted(index.aliases.items())),
        "pins": sorted(index.pins),
    }
    return json.dumps(members, indent=1).encode() + b"\n"


def _parse(raw: bytes) -> Index:
    root = parse_json(raw).fields(("index_version", "revision", "experts", "aliases", "pins"))
    root["index_version"].integer(_INDEX_VERSION, _INDEX_VERSION)
    return Index(
        revision=root["revision"].integer(0, 1 << 62),
        experts=MappingProxyType({name: _record(node) for name, node in _members(root["experts"]).items()}),
        aliases=MappingProxyType({name: node.text(64, NAME) for name, node in _members(root["aliases"]).items()}),
        pins=frozenset(node.text(64, NAME) for node in root["pins"].items(_MAX_EXPERTS)),
    )


def _members(node: JsonNode) -> dict[str, JsonNode]:
    names = node.value if isinstance(node.value, dict) else {}
    members = node.fields(names)
    for name, member in members.items():
        if not NAME.fullmatch(name):
            member.fail(f"its name does not match {NAME.pattern}")
    return members


def _record(node: JsonNode) -> Record:
    members = node.fields(("active",), ("standby",))
    standby = members["standby"].text(64, HEX_32) if "standby" in members else None
    return Record(members["active"].text(64, HEX_32), standby)
