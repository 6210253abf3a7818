"""The base's linear layers as served: dense, int8 or int4 on a CPU, NF4 on CUDA. Each gives back the weight it uses."""

from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from engine.model.four_bit import Int4Linear

OUTLIER_RATIO = 12.0
"""A row whose peak is this many times its mean magnitude is quantized in two terms."""


class LinearKernel(Protocol):
    """x [tokens, in] -> [tokens, out]."""

    @property
    def num_bytes(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor: ...

    def dequantized(self) -> Tensor:
        """The weight that the kernel multiplies by, fp32 [out, in]."""
        ...


class DenseLinear:
    """The weight as it is, in the dtype that the model computes in."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self.weight)

    def dequantized(self) -> Tensor:
        return self.weight.float()


class Int8Linear:
    """Weights int8 per output channel, activations int8 per row (7 bits without VNNI), an exact product (oneDNN).

    A row with an outlier channel would lose its other channels to rounding. Such a row gets a second term: what the
    first rounding left over, quantized by a scale of its own, which divides its error by another 254 (126).
    """

    def __init__(self, weight: Tensor) -> None:
        rounded, self.scale = quantize_weight(weight)
        self.packed = torch.ops.onednn.qlinear_prepack(rounded, None)  # [in, out]
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.levels = exact_levels()

    @property
    def num_bytes(self) -> int:
        return int(self.packed.numel()) + self.scale.nbytes + self.zeros.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        first, scale = quantize_rows(x, self.levels)
        y = self._multiply(first, scale)
        peaked = (scale * self.levels > OUTLIER_RATIO * x.abs().mean(1, keepdim=True)).flatten()
        if peaked.any():
            rest, rest_scale = quantize_rows(x[peaked] - first[peaked] * scale[peaked], self.levels)
            y[peaked] += self._multiply(rest, rest_scale)
        return y

    def _multiply(self, rounded: Tensor, scale: Tensor) -> Tensor:
        """`rounded` holds integers within the levels as floats, [rows, in]."""
        return integer_product(rounded, self.levels, self.packed, self.scale, self.zeros) * scale

    def dequantized(self) -> Tensor:
        dense: Tensor = self.packed.to_dense()
        return dense.t().float() * self.scale[:, None]


class NF4Linear:
    """4-bit normal floats in blocks of 64 with doubly quantized scales (Dettmers et al. 2023), by bitsandbytes."""

    def __init__(self, weight: Tensor) -> None:
        import bitsandbytes.functional as bnb  # seconds of import that only NF4 should cost

        self._dequantize = bnb.dequantize_4bit
        self.packed, self.state = bnb.quantize_4bit(
            weight.contiguous(), blocksize=64, compress_statistics=True, quant_type="nf4"
        )
        self.dtype = weight.dtype

    @property
    def num_bytes(self) -> int:
        return int(self.packed.nbytes + self.state.absmax.nbytes + self.state.state2.absmax.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.nn.functional.linear(x, self._dequantize(self.packed, self.state).to(x.dtype))

    def dequantized(self) -> Tensor:
        weight: Tensor = self._dequantize(self.packed, self.state)
        return weight.float()


def integer_product(rounded: Tensor, levels: int, packed: Tensor, scale: Tensor, zeros: Tensor) -> Tensor:
    """Rows of integers in -levels..levels times packed int8 weights; oneDNN wants the rows unsigned."""
    middle = levels + 1
    y: Tensor = torch.ops.onednn.qlinear_pointwise(
        (rounded + middle).to(torch.uint8), 1.0, middle, packed, scale, zeros,
        None, 1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return y


@cache
def exact_levels() -> int:
    """How far from zero an activation may go for the product to be exact on this CPU.

    Without VNNI, pairs of products are added in 16 bits and saturate: 2 * 255 * 127 does not fit, 2 * 127 * 127 does.
    """
    weight = torch.full((8, 64), 127, dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    y = integer_product(torch.full((2, 64), 127.0), 127, packed, torch.ones(8), torch.zeros(8, dtype=torch.int64))
    return 127 if (y == 64 * 127 * 127).all() else 63


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight [out, in] -> int8 of the same shape and the scale of each output, fp32 [out]."""
    weight = weight.float()
    scale = (weight.abs().amax(1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8), scale


def quantize_rows(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """x [rows, n] -> integers in -levels..levels as floats, and the scale of each row [rows, 1]."""
    scale = (x.abs().amax(1, keepdim=True) / levels).clamp_min(torch.finfo(torch.float32).tiny)
    return (x / scale).round(), scale


def make_kernel(weight: Tensor, quantization: str) -> LinearKernel:
    """`weight` is in the compute dtype and on the device; the result keeps no reference to it where it is quantized."""
    if quantization == "int8":
        return Int8Linear(weight)
    if quantization == "int4":
        return Int4Linear(weight)
    if quantization == "nf4":
        return NF4Linear(weight)
    return DenseLinear(weight)
