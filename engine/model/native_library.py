"""The compiled kernels of `native/`: its structs (see native.h), its calls, the threads that work for them.

Knows addresses and counts; what lies there is the business of `native_weights` and `native`.
"""

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, Array, Structure, byref, c_double, c_float, c_int, c_int32, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

PLAIN, NORM, GATE = range(3)
PARTS = ("qkv", "attention", "o", "gate and up", "down")
"""Of a block, in the order of native.h."""


class CDelta(Structure):
    _fields_ = [(name, c_void_p) for name in "abkgc"] + [(name, c_int32) for name in ("rank", "l", "m")]


class CWeight(Structure):
    _fields_ = [(name, c_void_p) for name in ("values", "scale", "offset", "groups")]


class CLinear(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("weight", "scale", "offset", "groups", "deltas")),
        ("inner", c_int32),
        ("out", c_int32),
    ]


class CMixtures(Structure):
    kept: tuple[Tensor, ...]
    """What the addresses point to."""
    _fields_ = [("slots", c_void_p), ("weights", c_void_p), ("tokens", c_int32), ("width", c_int32)]


class CInput(Structure):
    _fields_ = [("x", c_void_p), ("other", c_void_p), ("eps", c_float), ("kind", c_int32)]


class CCache(Structure):
    _fields_ = [(name, c_void_p) for name in ("keys", "values", "key_scales", "value_scales")]


class CRows(Structure):
    kept: tuple[object, ...]
    """What the addresses point to."""
    _fields_ = [
        *((name, c_void_p) for name in ("begins", "starts", "tables", "cosines", "sines")),
        ("rows", c_int32),
        ("table_width", c_int32),
    ]


class CHeads(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("query_gain", "key_gain")),
        *((name, c_float) for name in ("eps", "scale")),
        *((name, c_int32) for name in ("heads", "kv_heads", "head_dim", "block_size")),
    ]


class CLayer(Structure):
    _fields_ = [
        *((name, POINTER(CLinear)) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        ("heads", CHeads),
        ("cache", CCache),
        *((name, c_void_p) for name in ("input_norm", "post_norm")),
    ]


_STRUCTS = (CDelta, CWeight, CLinear, CMixtures, CInput, CCache, CRows, CHeads, CLayer)
"""In the order of native.h."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where they were not built or this CPU cannot run them."""
    found = sorted(Path(__file__).parent.glob("_native*.so"))
    if not found:
        return None
    try:
        lib = ctypes.CDLL(str(found[0]))
    except OSError:
        return None
    check_structs(found[0], lib)
    if not lib.hs_supported():
        return None
    lib.hs_workspace_new.restype = c_void_p
    lib.hs_workspace_new.argtypes = [c_int]
    lib.hs_workspace_free.argtypes = [c_void_p]
    lib.hs_quantize_weight.argtypes = [c_void_p, c_void_p, c_int32, c_int32, POINTER(CWeight)]
    lib.hs_linears.argtypes = [
        c_void_p, POINTER(POINTER(CLinear)), c_int, POINTER(CInput), POINTER(CMixtures), POINTER(c_void_p),
        c_void_p,
    ]  # fmt: skip
    lib.hs_attend.argtypes = [
        c_void_p, POINTER(CHeads), POINTER(CRows), POINTER(CCache), c_void_p, c_void_p, c_void_p, c_void_p,
    ]  # fmt: skip
    lib.hs_forward.argtypes = [
        c_void_p, POINTER(CLayer), c_int, c_float, POINTER(CRows), POINTER(CMixtures), c_void_p, c_void_p,
    ]  # fmt: skip
    lib.hs_seconds.argtypes = [c_void_p, POINTER(c_double)]
    return lib


def check_structs(path: Path, lib: ctypes.CDLL) -> None:
    """Raises RuntimeError where the library was built from other sources: its calls would read the wrong memory."""
    try:
        built = list((c_int32 * len(_STRUCTS)).in_dll(lib, "hs_struct_sizes"))
    except ValueError:
        built = []
    if built != [ctypes.sizeof(struct) for struct in _STRUCTS]:
        raise RuntimeError(f"{path} was built from other sources than these; install Hotseat again")


class Group:
    """Layers that see the same input."""

    def __init__(self, layers: Sequence[CLinear]) -> None:
        self.layers = layers
        self.pointers = (POINTER(CLinear) * len(layers))(*map(ctypes.pointer, layers))


class Kernels:
    """The library with threads and a workspace of its own; used by one thread at a time."""

    def __init__(self, threads: int = 0) -> None:
        """With as many threads as torch has, unless told otherwise."""
        lib = library()
        assert lib is not None
        self.lib, self.space = lib, c_void_p(lib.hs_workspace_new(threads or torch.get_num_threads()))
        weakref.finalize(self, lib.hs_workspace_free, self.space).atexit = False

    def linears(
        self, group: Group, given: CInput, tokens: int, mixtures: CMixtures | None = None, add: Tensor | None = None
    ) -> list[Tensor]:
        """What each layer of the group gives, fp32 [tokens, out]; with `add`, the one layer's is also added there."""
        outs = [torch.empty(tokens, layer.out) for layer in group.layers]
        places = (c_void_p * len(outs))(*(out.data_ptr() for out in outs))
        mixtures = mixtures or CMixtures(None, None, tokens, 0)
        added = None if add is None else add.data_ptr()
        self.lib.hs_linears(self.space, group.pointers, len(outs), byref(given), byref(mixtures), places, added)
        return outs

    def forward(
        self, layers: "Array[CLayer]", eps: float, rows: CRows, mixtures: CMixtures, hidden: Tensor, room: Tensor
    ) -> None:
        """All blocks of a step on `hidden` [tokens, hidden], in place; `room` as native.h has it."""
        self.lib.hs_forward(
            self.space, layers, len(layers), eps, byref(rows), byref(mixtures), hidden.data_ptr(), room.data_ptr()
        )

    def seconds(self) -> dict[str, float]:
        """Spent in `forward` so far, by the parts of a block."""
        found = (c_double * len(PARTS))()
        self.lib.hs_seconds(self.space, found)
        return dict(zip(PARTS, found, strict=True))
