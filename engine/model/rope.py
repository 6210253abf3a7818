"""Rotary position embedding (Su et al. 2021): plain, with linear interpolation, and YaRN. Half-split layout."""

from math import ceil, floor

import torch
from torch import Tensor

from engine.model.rope_config import RopeConfig


def frequencies(rope: RopeConfig, head_dim: int) -> Tensor:
    """Radians per position of each pair of dimensions, fp32 [head_dim / 2]."""
    plain = 1 / rope.theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    if rope.kind != "yarn":
        return plain / rope.factor
    low, high = rope.dimension(rope.beta_fast, head_dim), rope.dimension(rope.beta_slow, head_dim)
    if rope.truncate:
        low, high = floor(low), ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    ramp = ((torch.arange(head_dim // 2) - low) / max(high - low, 1e-3)).clamp(0, 1)
    return plain * (1 - ramp) + plain / rope.factor * ramp


class Rotary:
    """Cosines and sines of every position."""

    def __init__(self, rope: RopeConfig, head_dim: int, positions: int, device: torch.device) -> None:
        angles = torch.outer(torch.arange(positions, dtype=torch.float32), frequencies(rope, head_dim)).to(device)
        self.cos = torch.cat([angles.cos()] * 2, -1) * rope.magnitude
        self.sin = torch.cat([angles.sin()] * 2, -1) * rope.magnitude

    @property
    def num_bytes(self) -> int:
        return self.cos.nbytes + self.sin.nbytes

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Tables for each token, [tokens, 1, head_dim]."""
        return self.cos[positions][:, None], self.sin[positions][:, None]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [tokens, heads, head_dim]."""
    first, second = x.chunk(2, -1)
    return (x * cos + torch.cat((-second, first), -1) * sin).to(x.dtype)
