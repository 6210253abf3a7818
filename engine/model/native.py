"""The base on a CPU with AVX-512 and VNNI: int8 weights, bf16 adapters, the kernels of `native/`.

The plain transformer is the reference; this one computes the same with every element in one fixed order, so that a
row's result depends on nothing but the row.
"""

import ctypes
import weakref
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_float, c_int, c_int32, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.model.config import ModelConfig
from engine.model.delta import AdaptedLinear, LinearDelta, Mixtures
from engine.model.layers import KVCache, StepInputs
from engine.model.transformer import Layer, Transformer

PLAIN, NORM, GATE = range(3)


class CDelta(Structure):
    _fields_ = [(name, c_void_p) for name in "abkgc"] + [(name, c_int32) for name in ("rank", "l", "m")]


class CWeight(Structure):
    _fields_ = [(name, c_void_p) for name in ("values", "scale", "offset")]


class CLinear(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("weight", "scale", "offset", "deltas")),
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
    kept: tuple[Tensor, ...]
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
    return lib


class NativeInt8:
    """Weights int8 per output channel as in `Int8Linear`, in tiles of 16 outputs by 4 inputs."""

    def __init__(self, weight: Tensor) -> None:
        self.out, self.inner = weight.shape
        self.packed = torch.empty(weight.shape, dtype=torch.int8)
        self.scale, self.offset = torch.empty(self.out), torch.empty(self.out, dtype=torch.int32)
        places = CWeight(self.packed.data_ptr(), self.scale.data_ptr(), self.offset.data_ptr())
        weight = weight.float().contiguous()
        kernels = Kernels()
        kernels.lib.hs_quantize_weight(kernels.space, weight.data_ptr(), self.out, self.inner, byref(places))

    @property
    def num_bytes(self) -> int:
        return self.packed.nbytes + self.scale.nbytes + self.offset.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        """fp32 [tokens, in] -> [tokens, out]."""
        x = x.contiguous()
        return Kernels().linears(Group([self.described()]), CInput(x.data_ptr(), None, 0, PLAIN), len(x))[0]

    def described(self, deltas: c_void_p | None = None) -> CLinear:
        pointers = (self.packed.data_ptr(), self.scale.data_ptr(), self.offset.data_ptr(), deltas)
        return CLinear(*pointers, self.inner, self.out)

    def dequantized(self) -> Tensor:
        tiles = self.packed.view(self.out // 16, self.inner // 4, 16, 4)
        return tiles.transpose(1, 2).reshape(self.out, self.inner).float() * self.scale[:, None]


class NativeLinear(AdaptedLinear):
    """An adapted linear layer whose slots are described to the kernels by a table of addresses."""

    def __init__(self, kernel: NativeInt8, slots: int, rank: int, like: Tensor) -> None:
        super().__init__(kernel, (kernel.out, kernel.inner), slots, rank, like, torch.bfloat16)
        self.table = (CDelta * slots)()
        self.described = kernel.described(ctypes.cast(self.table, c_void_p))

    def load(self, slot: int, delta: LinearDelta | None) -> None:
        super().load(slot, delta)
        left, right, rank = self.kronecker.get(slot) or (1, 1, self.low_rank.get(slot, 0))

        def address(part: Tensor, there: bool) -> int | None:
            return part[slot].data_ptr() if there else None

        self.table[slot] = CDelta(
            address(self.a, rank > 0),
            address(self.b, rank > 0),
            address(self.k, slot in self.kronecker),
            address(self.g, slot in self.scales_output),
            address(self.c, slot in self.scales_input),
            rank,
            left,
            right,
        )


class NativeCache(KVCache):
    """bf16 or int8, with the keys transposed within their block, so that sixteen positions are one vector."""

    def __init__(self, positions: int, config: ModelConfig, int8: bool) -> None:
        super().__init__(positions, config.num_kv_heads, config.head_dim, torch.empty(0, dtype=torch.bfloat16), int8)
        scales = (None, None) if self.scales is None else (scale.data_ptr() for scale in self.scales)
        self.described = CCache(self.keys.data_ptr(), self.values.data_ptr(), *scales)


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

    def attend(self, heads: CHeads, rows: CRows, kv: CCache, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query [tokens, heads * head_dim], which is overwritten -> the same shape; keys and values go to the cache."""
        out = torch.empty_like(query)
        pointers = (query.data_ptr(), key.data_ptr(), value.data_ptr(), out.data_ptr())
        self.lib.hs_attend(self.space, byref(heads), byref(rows), byref(kv), *pointers)
        return out


@dataclass(frozen=True, slots=True)
class NativeLayer:
    """What the kernels need of one block."""

    qkv: Group
    o: Group
    gate_up: Group
    down: Group
    heads: CHeads
    cache: CCache
    input_norm: Tensor
    post_norm: Tensor


class NativeTransformer(Transformer):
    """Serves int8 on a CPU."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.kernels = Kernels()
        self.native_layers = [self._describe(layer) for layer in self.layers]
        assert isinstance(self.head, NativeInt8)
        self.head_group = Group([self.head.described()])

    def forward(self, inputs: StepInputs) -> Tensor:
        tokens, eps, run = len(inputs.ids), self.config.norm_eps, self.kernels.linears
        half = self.config.head_dim // 2
        angles = (table[inputs.positions, :half] for table in (self.rotary.cos, self.rotary.sin))
        rows = describe_rows(inputs, *angles)
        mixtures = describe_mixtures(inputs.mixtures)
        hidden = self.embed(inputs.ids)
        for layer in self.native_layers:
            given = CInput(hidden.data_ptr(), layer.input_norm.data_ptr(), eps, NORM)
            query, key, value = run(layer.qkv, given, tokens, mixtures)
            mixed = self.kernels.attend(layer.heads, rows, layer.cache, query, key, value)
            run(layer.o, CInput(mixed.data_ptr(), None, 0, PLAIN), tokens, mixtures, add=hidden)
            given = CInput(hidden.data_ptr(), layer.post_norm.data_ptr(), eps, NORM)
            gate, up = run(layer.gate_up, given, tokens, mixtures)
            run(layer.down, CInput(gate.data_ptr(), up.data_ptr(), 0, GATE), tokens, mixtures, add=hidden)
        last = hidden[inputs.sampled]
        return run(self.head_group, CInput(last.data_ptr(), self.norm.data_ptr(), eps, NORM), len(last))[0]

    def _describe(self, layer: Layer) -> NativeLayer:
        config = self.config

        def group(*names: str) -> Group:
            linears = [layer.linears[name] for name in names]
            return Group([linear.described for linear in linears if isinstance(linear, NativeLinear)])

        assert isinstance(layer.cache, NativeCache)
        gains = (layer.query_norm.data_ptr(), layer.key_norm.data_ptr())
        shape = (config.num_heads, config.num_kv_heads, config.head_dim, self.block_size)
        return NativeLayer(
            qkv=group("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            o=group("self_attn.o_proj"),
            gate_up=group("mlp.gate_proj", "mlp.up_proj"),
            down=group("mlp.down_proj"),
            heads=CHeads(*gains, config.norm_eps, config.head_dim**-0.5, *shape),
            cache=layer.cache.described,
            input_norm=layer.input_norm,
            post_norm=layer.post_norm,
        )


def describe_mixtures(mixtures: Mixtures) -> CMixtures:
    slots, weights = mixtures.slots.contiguous(), mixtures.weights.contiguous()
    described = CMixtures(slots.data_ptr(), weights.data_ptr(), *slots.shape)
    described.kept = (slots, weights)
    return described


def describe_rows(inputs: StepInputs, cosines: Tensor, sines: Tensor) -> CRows:
    """cosines, sines [tokens, head_dim / 2]"""
    begins, starts = (torch.tensor(values, dtype=torch.int32) for values in (inputs.begins, inputs.starts))
    arrays = (begins, starts, inputs.tables.contiguous(), cosines.contiguous(), sines.contiguous())
    rows = CRows(*(array.data_ptr() for array in arrays), *inputs.tables.shape)
    rows.kept = arrays
    return rows
