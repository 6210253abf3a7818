"""Whole masks of states that were met before, shared by all matchers of a compiler's grammars. Knows no grammar.

A mask takes a few milliseconds on a large vocabulary and 19 KB as bits; a grammar has few states in which one is ever
needed, and those come back (inside a string, before a key).
"""

from collections import OrderedDict
from collections.abc import Hashable
from sys import getsizeof
from threading import Lock

import numpy as np
from numpy.typing import NDArray

DEFAULT_BYTES = 64 * 2**20


class MaskCache:
    """The most recently used masks within `limit_bytes`; safe to call from several threads."""

    def __init__(self, limit_bytes: int = DEFAULT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._packed: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    @property
    def num_bytes(self) -> int:
        """Of the packed masks and their keys."""
        return self._num_bytes

    def get(self, key: Hashable, size: int) -> NDArray[np.bool_] | None:
        """The mask of `size` ids that was put under the key, if it is still here. Read only."""
        with self._lock:
            packed = self._packed.get(key)
            if packed is None:
                return None
            self._packed.move_to_end(key)
        return _frozen(np.unpackbits(packed, count=size).view(np.bool_))

    def put(self, key: Hashable, mask: NDArray[np.bool_]) -> None:
        packed = np.packbits(mask)
        with self._lock:
            if key in self._packed:
                return
            self._packed[key] = packed
            self._num_bytes += packed.nbytes + _size(key)
            while self._num_bytes > self._limit_bytes:
                old_key, oldest = self._packed.popitem(last=False)
                self._num_bytes -= oldest.nbytes + _size(old_key)


def _size(key: Hashable) -> int:
    """Bytes: on a small vocabulary a key is larger than its mask."""
    parts = key if isinstance(key, tuple | frozenset) else ()
    return getsizeof(key) + sum(map(_size, parts))


def _frozen(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    mask.flags.writeable = False
    return mask
