"""The lowered form of an adapter as one safetensors file, and the check that it fits the slots of this engine.

A file is read into one piece of memory, pinned for a GPU, of which its tensors are views. Its digest covers names,
shapes and values; the key says for which base, quantization, slots and version of the lowering it was made. The digest
tells damage and not malice: whoever can write here can write a digest too, so shapes are held against the slots.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from engine.model.delta import Delta, LinearDelta
from engine.packing import StoredDelta

VERSION = 1
"""Of the format and of what lowering makes; anything else that is read is stale."""
MAX_HEADER_BYTES = 16 << 20
DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
    "U8": torch.uint8,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LENGTH_BYTES = 8


PIECE = 2 << 20
"""Bytes that one thread reads or hashes at a time."""
Spread = Callable[[Callable[[int], Any], range], Iterable[Any]]
"""`map`, or that of a pool of threads."""


class LoweredDamaged(ValueError):
    """The file is not what was written, or not for these slots; what it holds has to be lowered again."""


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """What a slot has room for, and in which dtypes."""

    shapes: Mapping[str, tuple[int, int]]
    hidden: int
    max_rank: int
    max_virtual: int
    dtype: torch.dtype
    low_rank: torch.dtype
    """Of A and B."""

    def check(self, delta: Delta) -> None:
        """Raises LoweredDamaged for what would not fit, or would be read past its end."""
        for layer, linear in delta.linears.items():
            if layer not in self.shapes:
                raise LoweredDamaged(f"{layer!r} is no linear layer of this base")
            if fault := self._fault(linear, *self.shapes[layer]):
                raise LoweredDamaged(f"{layer}: {fault}")
        if (prompt := delta.prompt) is not None and (
            prompt.ndim != 2 or prompt.dtype != self.dtype
            or not 0 < len(prompt) <= self.max_virtual or prompt.shape[1] != self.hidden
        ):  # fmt: skip
            raise LoweredDamaged(f"a soft prompt of {list(prompt.shape)} {prompt.dtype}")

    def _fault(self, linear: LinearDelta, out: int, inner: int) -> str:
        for name, part, width in (("g", linear.g, out), ("c", linear.c, inner)):
            if part is not None and (part.shape != (width,) or part.dtype != self.dtype):
                return f"{name} is {list(part.shape)} {part.dtype}"
        a, b, k = linear.a, linear.b, linear.k
        if a is None or b is None:
            return "" if a is b is k else "A and B come together"
        if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or {a.dtype, b.dtype} != {self.low_rank}:
            return f"A is {list(a.shape)} {a.dtype}, B {list(b.shape)} {b.dtype}"
        if not 0 < a.numel() <= self.max_rank * inner or not 0 < b.numel() <= self.max_rank * out:
            return f"rank {len(a)} is above the room of {self.max_rank}"
        left, right = (1, 1) if k is None else (tuple(k.shape) if k.ndim == 2 else (0, 0))
        if (left * b.shape[1], right * a.shape[1]) != (out, inner):
            return f"A is {list(a.shape)}, B {list(b.shape)}, K {left} x {right}"
        if k is not None and (k.dtype != self.dtype or k.numel() > isqrt(out) * isqrt(inner)):
            return f"K is {left} x {right} {k.dtype}"
        return ""


def write(file: BinaryIO, stored: StoredDelta, key: str) -> None:
    """A safetensors file; `read` takes it back under the same key alone."""
    order = sorted(stored.tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    entries: dict[str, Any] = {}
    end = 0
    for name, tensor in order:
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    about = {
        "version": str(VERSION),
        "key": key,
        "generation": stored.generation,
        "name": stored.name,
        "kind": stored.kind,
        "storage": stored.storage,
    }
    data = b"".join(_bytes_of(tensor) for _, tensor in order)
    about["sha256"] = _digest(entries, about, memoryview(data))
    header = json.dumps({"__metadata__": about, **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)
    file.write(len(header).to_bytes(_LENGTH_BYTES, "little"))
    file.write(header)
    file.write(data)


def load(path: Path, pinned: bool, spread: Spread = map) -> Tensor:
    """The file in one piece of memory, uint8. Raises OSError, and LoweredDamaged for one that changes its length."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        content = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        raw = _bytes_of(content)

        def read(begin: int) -> int:
            return os.preadv(file.fileno(), [raw[begin : begin + PIECE]], begin)

        if sum(spread(read, range(0, size, PIECE))) != size:
            raise LoweredDamaged("the file is shorter than it was")
    return content


def parse(content: Tensor, key: str, generation: str, storage: str, spread: Spread = map) -> StoredDelta:
    """Checked against its digest; its tensors are views of `content`. Raises LoweredDamaged."""
    raw = _bytes_of(content)
    try:
        length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, len(raw) - _LENGTH_BYTES) or length % _LENGTH_BYTES:
            raise LoweredDamaged(f"a header of {length} bytes in a file of {len(raw)}")
        entries = json.loads(bytes(raw[_LENGTH_BYTES : _LENGTH_BYTES + length]))
        about = entries.pop("__metadata__")
        expected = {"version": str(VERSION), "key": key, "generation": generation, "storage": storage}
        for name, value in expected.items():
            if about[name] != value:
                raise LoweredDamaged(f"its {name} is {str(about[name])[:80]!r}, not {value!r}")
        data = content[_LENGTH_BYTES + length :]
        digest = about.pop("sha256")
        if _digest(entries, about, _bytes_of(data), spread) != digest:
            raise LoweredDamaged("its digest is another")
        tensors = {name: _view(data, **entry) for name, entry in entries.items()}
        return StoredDelta(about["generation"], about["name"], about["kind"], about["storage"], tensors)
    except LoweredDamaged:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, RecursionError) as fault:
        raise LoweredDamaged(f"{type(fault).__name__}: {fault}") from fault


def _digest(entries: Mapping[str, Any], about: Mapping[str, str], data: memoryview, spread: Spread = map) -> str:
    """Over the header and the digests of the data's pieces, which several threads may take at a time."""

    def digest(begin: int) -> bytes:
        return hashlib.sha256(data[begin : begin + PIECE]).digest()

    found = hashlib.sha256(json.dumps([about, entries], sort_keys=True).encode())
    for piece in spread(digest, range(0, len(data), PIECE)):
        found.update(piece)
    return found.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    """Its own memory, where it is contiguous."""
    values: Any = tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
    return memoryview(values)


def _view(data: Tensor, dtype: str, shape: list[int], data_offsets: list[int]) -> Tensor:
    begin, end = data_offsets
    kind = DTYPES[dtype]
    if not 0 <= begin <= end <= len(data) or end - begin != prod(shape) * kind.itemsize or min(shape, default=0) < 1:
        raise LoweredDamaged(f"a tensor {dtype} {shape} from {begin} to {end} of {len(data)} bytes")
    return data[begin:end].view(kind).view(shape)
