"""The base on a CPU with AVX-512 and VNNI: quantized weights, bf16 adapters, the kernels of `native/`.

The plain transformer is the reference; this one computes the same with every element in one fixed order, so that a
row's result depends on nothing but the row.
"""

import ctypes
from ctypes import c_void_p
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.model.config import ModelConfig
from engine.model.delta import AdaptedLinear, LinearDelta, Mixtures
from engine.model.layers import KVCache, StepInputs
from engine.model.native_library import (
    GATE,
    NORM,
    PLAIN,
    CCache,
    CDelta,
    CHeads,
    CInput,
    CMixtures,
    CRows,
    Group,
    Kernels,
)
from engine.model.native_weights import NativeWeight
from engine.model.transformer import Layer, Transformer

memmove = ctypes.CDLL(None).memmove
"""Unlike that of ctypes, it leaves the interpreter to other threads meanwhile."""
memmove.argtypes, memmove.restype = (c_void_p, c_void_p, ctypes.c_size_t), c_void_p


class NativeLinear(AdaptedLinear):
    """An adapted linear layer whose slots are described to the kernels by a table of addresses."""

    def __init__(self, kernel: NativeWeight, slots: int, rank: int, like: Tensor) -> None:
        super().__init__(kernel, (kernel.out, kernel.inner), slots, rank, like, torch.bfloat16)
        self.table = (CDelta * slots)()
        self.described = kernel.described(ctypes.cast(self.table, c_void_p))
        parts = (self.a, self.b, self.k, self.g, self.c)
        self.slots = [[part.data_ptr() + slot * part[0].nbytes for part in parts] for slot in range(slots)]
        """Addresses of a slot's parts."""
        self.rooms = [(part.dtype, part[0].nbytes) for part in parts]

    def load(self, slot: int, delta: LinearDelta | None) -> None:
        super().load(slot, delta)
        left, right, rank = self.kronecker.get(slot) or (1, 1, self.low_rank.get(slot, 0))
        a, b, k, g, c = self.slots[slot]
        self.table[slot] = CDelta(
            a if rank else None,
            b if rank else None,
            k if slot in self.kronecker else None,
            g if slot in self.scales_output else None,
            c if slot in self.scales_input else None,
            rank,
            left,
            right,
        )

    def _copy(self, place: int, slot: int, source: Tensor) -> None:
        """A tenth of the time of a torch operation, of which a swap would make hundreds."""
        dtype, room = self.rooms[place]
        if source.dtype != dtype or source.nbytes > room or not source.is_contiguous():
            super()._copy(place, slot, source)
            return
        memmove(self.slots[slot][place], source.data_ptr(), source.nbytes)


class NativeCache(KVCache):
    """bf16 or int8, with the keys transposed within their block, so that sixteen positions are one vector."""

    def __init__(self, positions: int, config: ModelConfig, int8: bool) -> None:
        super().__init__(positions, config.num_kv_heads, config.head_dim, torch.empty(0, dtype=torch.bfloat16), int8)
        scales = (None, None) if self.scales is None else (scale.data_ptr() for scale in self.scales)
        self.described = CCache(self.keys.data_ptr(), self.values.data_ptr(), *scales)


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
    """Serves int8 and int4 on a CPU."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.kernels = Kernels()
        self.native_layers = [self._describe(layer) for layer in self.layers]
        assert isinstance(self.head, NativeWeight)
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
