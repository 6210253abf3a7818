"""Reads packages for a server whose engine keeps its own, lowered form of them.

Owns which packages were verified in this process. Each is read and checked whole when it is first seen; after that
manifest, configuration and grammar of all but the smallest stay while their files do not change, and weights are read
again only where somebody asks for them, which nobody does while the lowered form is there. Called by `store`, from any
thread.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from torch import Tensor

from adapters_store.errors import PackageInvalid
from adapters_store.files import FileStamp, list_files
from adapters_store.package import HostAdapter, read_package

SMALL_BYTES = 1 << 16
"""Up to here a package is simply kept whole."""
MAX_KNOWN = 4096
MAX_FRESH = 4
"""Packages whose tensors wait for the first who wants them: as many as are first seen at one time."""


@dataclass(frozen=True, slots=True)
class _Known:
    stamps: tuple[FileStamp, ...]
    adapter: HostAdapter


class LightReader:
    """Give it to an AdapterStore as `read`; `on_read` is told the seconds of every reading of a whole package."""

    def __init__(
        self,
        read: Callable[[Path], HostAdapter] = read_package,
        on_read: Callable[[float], None] | None = None,
        small_bytes: int = SMALL_BYTES,
    ) -> None:
        self._read, self._on_read, self._small_bytes = read, on_read, small_bytes
        self._known: OrderedDict[Path, _Known] = OrderedDict()
        self._fresh: OrderedDict[str, Mapping[str, Tensor]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, directory: Path) -> HostAdapter:
        """Raises PackageInvalid. What comes back may hold its weights as PackageTensors, without their bytes."""
        stamps = list_files(directory)
        with self._lock:
            known = self._known.get(directory)
            if known is not None and known.stamps == stamps:
                self._known.move_to_end(directory)
                return known.adapter
        adapter = self._whole(directory)
        if adapter.num_bytes <= self._small_bytes:
            return adapter
        light = replace(
            adapter,
            tensors=PackageTensors(self, directory, adapter.generation),
            num_bytes=0 if adapter.soft_prompt is None else adapter.soft_prompt.nbytes,
        )
        with self._lock:
            self._known[directory] = _Known(stamps, light)
            self._fresh[adapter.generation] = adapter.tensors
            for held, limit in ((self._known, MAX_KNOWN), (self._fresh, MAX_FRESH)):
                if len(held) > limit:
                    held.popitem(last=False)
        return light

    def take(self, directory: Path, generation: str) -> Mapping[str, Tensor]:
        """The weights, once without reading; raises PackageInvalid where the package is another by now."""
        with self._lock:
            if (fresh := self._fresh.pop(generation, None)) is not None:
                return fresh
        adapter = self._whole(directory)
        if adapter.generation != generation:
            raise PackageInvalid(directory.name, "it was replaced while a request waited for it; ask again")
        return adapter.tensors

    def _whole(self, directory: Path) -> HostAdapter:
        began = time.perf_counter()
        adapter = self._read(directory)
        if self._on_read is not None:
            self._on_read(time.perf_counter() - began)
        return adapter


class PackageTensors(Mapping[str, Tensor]):
    """The weights of a package by name, read again by every look at them: take `items()` and keep them."""

    def __init__(self, reader: LightReader, directory: Path, generation: str) -> None:
        self._reader, self._directory, self._generation = reader, directory, generation

    def __getitem__(self, name: str) -> Tensor:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())

    def items(self) -> ItemsView[str, Tensor]:
        return self._load().items()

    def _load(self) -> Mapping[str, Tensor]:
        return self._reader.take(self._directory, self._generation)
