"""Draws from weights of which tokens are taken out again and again. Knows no grammar."""

import numpy as np
import torch
from numpy.typing import NDArray

from engine.draws import BLOCK, block_sums

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


class Remaining:
    """Weights from which tokens are taken out. Draws as `draws.draw_in_blocks` does."""

    def __init__(self, weights: Floats, sums: Floats) -> None:
        self._weights, self._sums = weights, sums.copy()
        self._removed: list[int] = []

    @property
    def is_empty(self) -> bool:
        return not self._sums.any()

    def remove(self, token: int) -> None:
        self._removed.append(token)
        self._sums[token // BLOCK] = self._members(token // BLOCK).sum()

    def cut(self, logits: Floats, token: int) -> None:
        """Take out the token and all that rank below it."""
        before = ahead_of(token, logits)
        before[self._removed] = False
        weights = self._weights * before
        self._weights, self._removed = weights, []
        self._sums = block_sums(torch.from_numpy(weights)[None])[0].numpy()

    def draw(self, uniform: float) -> int:
        block, rest = _invert(self._sums, uniform, None)
        inside, _ = _invert(self._members(block), uniform, rest)
        return block * BLOCK + inside

    def _members(self, block: int) -> Floats:
        members = self._weights[block * BLOCK : (block + 1) * BLOCK].copy()
        members[[token % BLOCK for token in self._removed if token // BLOCK == block]] = 0
        return members


def ahead_of(token: int, logits: Floats) -> Mask:
    """What ranks before the token."""
    ahead: Mask = np.empty(len(logits), np.bool_)
    np.greater_equal(logits[:token], logits[token], out=ahead[:token])
    np.greater(logits[token:], logits[token], out=ahead[token:])
    return ahead


def _invert(weights: Floats, uniform: float, target: float | None) -> tuple[int, float]:
    """The index whose cumulative weight first exceeds the target (of the total, the uniform), and how far into it."""
    cumulative = np.cumsum(weights, dtype=np.float64)
    target = float(uniform * cumulative[-1]) if target is None else target
    target = min(target, float(np.nextafter(cumulative[-1], 0)))
    index = int(cumulative.searchsorted(target, side="right"))
    return index, target - float(cumulative[index - 1] if index else 0.0)
