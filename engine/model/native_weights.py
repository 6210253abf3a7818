"""The base's weights as the CPU's kernels read them: int8, and four bits in groups."""

from ctypes import byref, c_void_p

import torch
from torch import Tensor

from engine.model.config import FOUR_BIT_GROUP
from engine.model.four_bit import dequantize
from engine.model.native_library import PLAIN, CInput, CLinear, CWeight, Group, Kernels

TILE = 16
"""Outputs that lie together; `out` is a multiple of it."""


class NativeWeight:
    """A weight [out, in] that the kernels have quantized and multiply by."""

    def __init__(self, weight: Tensor, packed: Tensor, offset: Tensor | None = None, groups: Tensor | None = None):
        """Fills what it is given: `offset` makes it int8, `groups` four bits."""
        self.out, self.inner = weight.shape
        self.packed, self.scale, self.offset, self.groups = packed, torch.empty(self.out), offset, groups
        weight = weight.float().contiguous()
        kernels = Kernels()
        places = CWeight(*self._addresses())
        kernels.lib.hs_quantize_weight(kernels.space, weight.data_ptr(), self.out, self.inner, byref(places))

    def __call__(self, x: Tensor) -> Tensor:
        """fp32 [tokens, in] -> [tokens, out]."""
        x = x.contiguous()
        return Kernels().linears(Group([self.described()]), CInput(x.data_ptr(), None, 0, PLAIN), len(x))[0]

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for part in self._parts() if part is not None)

    def described(self, deltas: c_void_p | None = None) -> CLinear:
        return CLinear(*self._addresses(), deltas, self.inner, self.out)

    def dequantized(self) -> Tensor:
        raise NotImplementedError

    def _parts(self) -> tuple[Tensor | None, ...]:
        return self.packed, self.scale, self.offset, self.groups

    def _addresses(self) -> list[int | None]:
        return [None if part is None else part.data_ptr() for part in self._parts()]


class NativeInt8(NativeWeight):
    """int8 per output channel as in `Int8Linear`, in tiles of 16 outputs by 4 inputs."""

    def __init__(self, weight: Tensor) -> None:
        packed = torch.empty(weight.shape, dtype=torch.int8)
        super().__init__(weight, packed, offset=torch.empty(len(weight), dtype=torch.int32))

    def dequantized(self) -> Tensor:
        tiles = self.packed.view(self.out // TILE, self.inner // 4, TILE, 4)
        return tiles.transpose(1, 2).reshape(self.out, self.inner).float() * self.scale[:, None]


class NativeInt4(NativeWeight):
    """Four bits as in `Int4Linear`, in tiles of 16 outputs by 32 inputs."""

    groups: Tensor

    def __init__(self, weight: Tensor) -> None:
        out, inner = weight.shape
        packed = torch.empty(out, inner // 2, dtype=torch.uint8)
        super().__init__(
            weight, packed, groups=torch.empty(out // TILE, inner // FOUR_BIT_GROUP, TILE, dtype=torch.int8)
        )

    def dequantized(self) -> Tensor:
        tiles = self.packed.view(self.out // TILE, self.inner // FOUR_BIT_GROUP, 4, TILE, 4)
        packed = tiles.permute(0, 3, 1, 2, 4).reshape(self.out, -1, FOUR_BIT_GROUP // 2)
        return dequantize(packed, self.groups.transpose(1, 2).reshape(self.out, -1), self.scale)


def native_weight(weight: Tensor, quantization: str) -> NativeWeight:
    """Raises KeyError for what the kernels do not do."""
    return {"int8": NativeInt8, "int4": NativeInt4}[quantization](weight)
