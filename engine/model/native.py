"""The base on a CPU with AVX-512 and VNNI: quantized weights, bf16 adapters, the kernels of `native/`.

The plain transformer is the reference; this one computes the same with every element in one fixed order, so that a
row's result depends on nothing but the row.
"""

import ctypes
from ctypes import c_void_p, pointer
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.model.config import ModelConfig
from engine.model.delta import AdaptedLinear, LinearDelta, Mixtures
from engine.model.layers import KVCache, StepInputs
from engine.model.native_library import NORM, CCache, CDelta, CHeads, CInput, CLayer, CMixtures, CRows, Group, Kernels
from engine.model.native_weights import NativeWeight
from engine.model.rope import Rotary
from engine.model.transformer import LINEARS, Layer, Transformer

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


class NativeTransformer(Transformer):
    """Serves int8 and int4 on a CPU."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.kernels = Kernels()
        self.native_layers = (CLayer * len(self.layers))(*map(self._describe, self.layers))
        assert isinstance(self.head, NativeWeight)
        self.head_group = Group([self.head.described()])

    def forward(self, inputs: StepInputs) -> Tensor:
        tokens, eps = len(inputs.ids), self.config.norm_eps
        rows, mixtures = describe_rows(inputs, self.rotary), describe_mixtures(inputs.mixtures)
        hidden = self.embed(inputs.ids)
        room = torch.empty(tokens, self.config.block_room)
        self.kernels.forward(self.native_layers, eps, rows, mixtures, hidden, room)
        last = hidden[inputs.sampled]
        given = CInput(last.data_ptr(), self.norm.data_ptr(), eps, NORM)
        return self.kernels.linears(self.head_group, given, len(last))[0]

    def _describe(self, layer: Layer) -> CLayer:
        config, linears = self.config, [layer.linears[name] for name in LINEARS]
        assert isinstance(layer.cache, NativeCache)
        gains = (layer.query_norm.data_ptr(), layer.key_norm.data_ptr())
        shape = (config.num_heads, config.num_kv_heads, config.head_dim, self.block_size)
        return CLayer(
            *(pointer(linear.described) for linear in linears if isinstance(linear, NativeLinear)),
            CHeads(*gains, config.norm_eps, config.head_dim**-0.5, *shape),
            layer.cache.described,
            layer.input_norm.data_ptr(),
            layer.post_norm.data_ptr(),
        )


def describe_mixtures(mixtures: Mixtures) -> CMixtures:
    slots, weights = mixtures.slots.contiguous(), mixtures.weights.contiguous()
    described = CMixtures(slots.data_ptr(), weights.data_ptr(), *slots.shape)
    described.kept = (slots, weights)
    return described


def describe_rows(inputs: StepInputs, rotary: Rotary) -> CRows:
    begins, starts = (np.array(values, np.int32) for values in (inputs.begins, inputs.starts))
    tables = inputs.tables.contiguous()
    addresses = (begins.ctypes.data, starts.ctypes.data, tables.data_ptr())
    rows = CRows(*addresses, rotary.cos.data_ptr(), rotary.sin.data_ptr(), *tables.shape)
    rows.kept = (begins, starts, tables, rotary)
    return rows
