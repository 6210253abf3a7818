"""Large tensors that are mostly unused at first: slots and the KV cache."""

from math import prod

import numpy as np
import torch
from torch import Tensor


def zeros(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros on the device of `like`, in its dtype unless told otherwise.

    On a CPU the system gives the pages when they are first written to, so what is never used takes no memory and no
    time; torch would write all of it.
    """
    dtype = dtype or like.dtype
    if like.device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=like.device)
    return torch.from_numpy(np.zeros(prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
