"""Weights of four bits: which of sixteen levels each one is, with a scale for each group of inputs.

A weight is scale[output] * groups[output, group] * LEVELS[code]. Owns the levels, the choice of the scales and the
plain product; the CPU's kernels do the same on tiles of their own (`native/quantize.c`, `native/four_bit.c`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from engine.model.config import DENSE_OUTPUTS, FOUR_BIT_GROUP

LEVELS = torch.tensor([-127.0, -100, -79, -62, -47, -34, -21, -9, 2, 13, 24, 36, 49, 65, 82, 106])
"""What the codes 0 to 15 stand for: the least squared error over normally distributed groups with scales chosen as
below (Lloyd's algorithm), rounded so that int8 holds them."""
REACHES = tuple(0.72 + 0.04 * step for step in range(11))
"""Scales that are tried for a group, of both signs: its peak at 1 / (127 * these)."""
PEAK = 127
UNIT = 1 / (PEAK * REACHES[0] * PEAK)
"""The scale of an output whose peak is 1: its groups' scales go up to 127 of these."""
_CODE_OF_CELL = torch.bucketize(torch.arange(512) / 2 - 128, (LEVELS[1:] + LEVELS[:-1]) / 2, right=True).to(torch.uint8)
"""The nearest level's code for each half step of -128 to 128; halfway between two levels begins a half step."""
_LEVEL_OF_CELL = LEVELS[_CODE_OF_CELL.int()]
QUANTIZED_AT_ONCE = 64
"""Outputs that fit in a cache while their scales are searched."""


@dataclass(frozen=True, slots=True)
class FourBits:
    packed: Tensor
    """uint8 [out, groups, 16]: inputs 0 to 15 of a group in the lower halves, 16 to 31 in the upper ones."""
    groups: Tensor
    """int8 [out, groups]."""
    scale: Tensor
    """fp32 [out]."""


def quantize(weight: Tensor) -> FourBits:
    """weight [out, in], with zeros for inputs that a last group lacks: the least squared error of the scales tried."""
    weight = pad(weight.float(), (0, -weight.shape[1] % FOUR_BIT_GROUP)).unflatten(1, (-1, FOUR_BIT_GROUP))
    peak = weight.abs().amax((1, 2)).clamp_min(torch.finfo(torch.float32).tiny)
    weight = weight * (1 / peak)[:, None, None]  # so that squares neither vanish nor overflow
    highest = weight.abs().amax(2)  # [out, groups]
    groups, least = torch.zeros_like(highest), weight.square().sum(2)
    for reach in REACHES:
        for sign in (1, -1):
            tried = sign * (highest * (PEAK * REACHES[0] / reach)).round()
            steps = (tried * UNIT)[:, :, None]
            error = (_nearest(weight, steps, _LEVEL_OF_CELL) * steps - weight).square().sum(2)
            groups, least = torch.where(error < least, tried, groups), torch.minimum(error, least)
    codes = _nearest(weight, (groups * UNIT)[:, :, None], _CODE_OF_CELL)
    low, high = codes.unflatten(2, (2, -1)).unbind(2)
    return FourBits(low | high << 4, groups.to(torch.int8), peak * UNIT)


def _nearest(weight: Tensor, steps: Tensor, of_cell: Tensor) -> Tensor:
    """What `of_cell` says of each weight, in units of its group's step."""
    places = weight * torch.where(steps == 0, 0, 1 / steps)
    cells = ((places + 128) * 2).clamp_(0, len(of_cell) - 1).int()
    return of_cell.index_select(0, cells.flatten()).view_as(weight)


def dequantize(packed: Tensor, groups: Tensor, scale: Tensor) -> Tensor:
    """fp32 [out, groups * FOUR_BIT_GROUP]."""
    codes = torch.cat([packed & 15, packed >> 4], 2)
    return (LEVELS[codes.int()] * (groups * scale[:, None])[:, :, None]).flatten(1)


class Int4Linear:
    """The reference, and what serves where the kernels do not: a part of the weight at a time is made dense."""

    def __init__(self, weight: Tensor) -> None:
        self.inner = weight.shape[1]
        parts = [quantize(part) for part in weight.split(QUANTIZED_AT_ONCE)]
        self.packed = torch.cat([part.packed for part in parts])
        self.groups = torch.cat([part.groups for part in parts])
        self.scale = torch.cat([part.scale for part in parts])

    @property
    def num_bytes(self) -> int:
        return self.packed.nbytes + self.groups.nbytes + self.scale.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        outputs = range(0, len(self.scale), DENSE_OUTPUTS)
        return torch.cat([linear(x, self._dense(slice(o, o + DENSE_OUTPUTS))) for o in outputs], 1)

    def dequantized(self) -> Tensor:
        return self._dense(slice(None))

    def _dense(self, outputs: slice) -> Tensor:
        parts = self.packed[outputs], self.groups[outputs], self.scale[outputs]
        return dequantize(*parts)[:, : self.inner]
