"""Memory of the process: large tensors that are mostly unused at first, and what is left over after large work."""

import ctypes
from functools import cache
from math import prod
from mmap import MADV_DONTNEED, MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap
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


def forget(values: Tensor) -> None:
    """Let the system take the whole pages of a part of a tensor back; they read as zeros from then on.

    Nothing happens where that cannot be done: on a GPU, and outside Linux.
    """
    advise = _madvise()
    if values.device.type != "cpu" or advise is None or not values.is_contiguous():
        return
    begin = -(-values.data_ptr() // PAGESIZE) * PAGESIZE
    length = (values.data_ptr() + values.nbytes) // PAGESIZE * PAGESIZE - begin
    if length > 0:
        advise(ctypes.c_void_p(begin), ctypes.c_size_t(length), MADV_DONTNEED)


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


@cache
def _madvise() -> Any:
    return getattr(ctypes.CDLL(None), "madvise", None)
