"""Memory of the process: large tensors that are mostly unused at first, and what is left over after large work."""

import ctypes
from functools import cache
from math import prod
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any

import torch
from torch import Tensor

SMALL = 1 << 16
"""Bytes below which pages are not worth asking for."""


def zeros(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros on the device of `like`, in its dtype unless told otherwise.

    On a CPU the system gives the pages when they are first written to, so what is never used takes no memory and no
    time; torch would write all of it, and so does calloc where it takes memory that was used before.
    """
    dtype = dtype or like.dtype
    size = prod(shape) * dtype.itemsize
    if like.device.type != "cpu" or size < SMALL:
        return torch.zeros(shape, dtype=dtype, device=like.device)
    return torch.frombuffer(mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS), dtype=dtype).view(shape)


def give_back() -> None:
    """Return what was freed to the system: glibc keeps blocks of some megabytes, for each thread that ever had them.

    Loading and lowering work on dequantized weights; without this, gigabytes of them stay resident.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Any:
    """None where the C library is not glibc."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
