"""Lowered adapters on disk, beside the base's other files that can be made again: a directory bounded in bytes.

A file is written under another name and renamed, so a reader meets whole files only; what is damaged or stale is
deleted and lowered again. Several processes may share the directory. Least recently used files go first, by their time
of modification, which a use renews.
"""

import hashlib
import logging
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from engine import lowered_format
from engine.config import AdapterStorage
from engine.lowered_format import LoweredDamaged
from engine.packing import StoredDelta
from engine.tier_stats import SwapTimes, TierStats

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
UNFINISHED = ".part"
NUM_THREADS = 2
"""For the pieces of one file: a large one is read and checked in half of the time."""
ABANDONED_S = 3600
"""Age from which an unfinished file belongs to a writer that is gone."""


@dataclass(frozen=True, slots=True)
class FilesConfig:
    root: Path
    capacity_bytes: int
    key: str
    """Everything that the lowered form depends on beside the package: base, quantization, dtypes, slots."""
    storage: AdapterStorage
    pinned: bool = False
    """Read into memory that a GPU copies from directly."""


class LoweredFiles:
    """Thread-safe."""

    def __init__(self, config: FilesConfig, times: SwapTimes) -> None:
        self.config, self._times = config, times
        self._directory = config.root / hashlib.sha256(config.key.encode()).hexdigest()[:32]
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(NUM_THREADS, "lowered-pieces")
        self._hits = self._misses = self._evictions = 0
        self._num_files = self._num_bytes = 0
        with self._lock:
            self._prune()

    def read(self, generation: str) -> StoredDelta | None:
        """None where there is no file that can be used."""
        path = self._path(generation)
        began = time.perf_counter()
        try:
            content = lowered_format.load(path, self.config.pinned, self._pool.map)
            read = time.perf_counter()
            stored = lowered_format.parse(content, self.config.key, generation, self.config.storage, self._pool.map)
            os.utime(path)
        except FileNotFoundError:
            self._count(hit=False)
            return None
        except (OSError, LoweredDamaged) as fault:
            log.warning("a lowered adapter is made again, its file %s cannot be used: %s", path.name, fault)
            self.discard(generation)
            self._count(hit=False)
            return None
        self._times.count_stage("read", read - began)
        self._times.count_stage("verify", time.perf_counter() - read)
        self._count(hit=True)
        return stored

    def write(self, stored: StoredDelta) -> None:
        """What cannot be written is not: the cache saves time and holds nothing that is not elsewhere."""
        if stored.num_bytes > self.config.capacity_bytes:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(suffix=UNFINISHED, dir=self._directory)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    lowered_format.write(file, stored, self.config.key)
                    size = file.tell()
                self.discard(stored.generation)
                with self._lock:
                    os.replace(unfinished, self._path(stored.generation))
                    self._num_files, self._num_bytes = self._num_files + 1, self._num_bytes + size
            finally:
                Path(unfinished).unlink(missing_ok=True)
        except OSError as fault:
            log.warning("a lowered adapter is not kept on disk: %s", fault)
            return
        with self._lock:
            if self._num_bytes > self.config.capacity_bytes:
                self._prune()

    def discard(self, generation: str) -> None:
        with self._lock, suppress(OSError):
            path = self._path(generation)
            size = path.stat().st_size
            path.unlink()
            self._num_files, self._num_bytes = self._num_files - 1, self._num_bytes - size

    def close(self) -> None:
        self._pool.shutdown(wait=False)

    def stats(self) -> TierStats:
        with self._lock:
            return TierStats(self._hits, self._misses, self._evictions, self._num_files, self._num_bytes)

    def _count(self, hit: bool) -> None:
        with self._lock:
            self._hits, self._misses = self._hits + hit, self._misses + (not hit)

    def _path(self, generation: str) -> Path:
        """A generation is no file name until it is hashed."""
        return self._directory / (hashlib.sha256(generation.encode()).hexdigest() + SUFFIX)

    def _prune(self) -> None:
        """Look at what is there, of all keys, and delete the oldest until the rest fits."""
        found: list[tuple[float, int, Path]] = []
        for path in self.config.root.glob("*/*"):
            with suppress(OSError):
                stat = path.stat()
                if path.suffix == SUFFIX:
                    found.append((stat.st_mtime, stat.st_size, path))
                elif path.suffix == UNFINISHED and time.time() - stat.st_mtime > ABANDONED_S:
                    path.unlink()
        self._num_files, self._num_bytes = len(found), sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if self._num_bytes <= self.config.capacity_bytes:
                break
            with suppress(OSError):
                path.unlink()
                self._num_files, self._num_bytes = self._num_files - 1, self._num_bytes - size
                self._evictions += 1
