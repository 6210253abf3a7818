"""One linear head per expert over the encoder's vectors: those that were trained, and those of experts added since.

Owns how a new expert gets a head from its manifest alone, and which heads are looked at when there are many: with more
than FLAT_EXPERTS, clusters of heads first, and then the heads of the likeliest ones. Called by `learned`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from router.encoder import Vectors
from router.model import Weights

FLAT_EXPERTS = 50
LOOKED_AT_CLUSTERS = 4
_QUANTILE = 0.998
"""Of the background's scores: a new expert's logit is 0 there."""
_TYPICAL_LOGIT = 4.0


@dataclass(frozen=True, slots=True)
class Head:
    weight: Vectors
    bias: float


def head_from_examples(vectors: Vectors, weights: Weights, others: NDArray[np.bool_]) -> Head | None:
    """Fisher's discriminant of a few examples [n, 2 * width] against the background rows that `others` marks.

    Its logit is 0 where the background all but ends and 4 at a typical example. None if the two do not separate.
    """
    direction = weights.background_inverse @ (vectors.mean(axis=0) - weights.background_mean)
    edge = float(np.quantile(weights.background[others] @ direction, _QUANTILE)) if others.any() else 0.0
    gap = float(np.median(vectors @ direction)) - edge
    if not gap > 1e-6:
        return None
    scale = _TYPICAL_LOGIT / gap
    return Head((direction * scale).astype(np.float32), -edge * scale)


class HeadTable:
    """Heads as one matrix, and clusters over its rows where there are many."""

    def __init__(self, heads: Sequence[Head]) -> None:
        self._matrix = np.array([head.weight for head in heads], np.float32)
        self._bias = np.array([head.bias for head in heads], np.float32)
        self._members: list[NDArray[np.int64]] = []
        if len(heads) > FLAT_EXPERTS:
            labels = _cluster(self._matrix, ceil(sqrt(len(heads))))
            self._members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
            self._centres = np.array([self._matrix[rows].mean(axis=0) for rows in self._members], np.float32)
            self._centre_bias = np.array([self._bias[rows].max() for rows in self._members], np.float32)

    def logits(self, vector: Vectors) -> tuple[NDArray[np.int64], Vectors]:
        """Which heads were looked at, and their logits."""
        if not self._members:
            rows = np.arange(len(self._bias))
            return rows, self._matrix @ vector + self._bias if len(rows) else np.zeros(0, np.float32)
        likeliest = np.argsort(-(self._centres @ vector + self._centre_bias))[:LOOKED_AT_CLUSTERS]
        rows = np.sort(np.concatenate([self._members[cluster] for cluster in likeliest]))
        return rows, self._matrix[rows] @ vector + self._bias[rows]


def _cluster(rows: Vectors, count: int, rounds: int = 8) -> NDArray[np.int64]:
    """Spherical k-means from evenly spaced rows: the same rows always make the same clusters."""
    unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)
    centres = unit[np.linspace(0, len(rows) - 1, count).astype(int)]
    for _ in range(rounds):
        labels = np.argmax(unit @ centres.T, axis=1)
        for label in np.unique(labels):
            mean = unit[labels == label].mean(axis=0)
            centres[label] = mean / (np.linalg.norm(mean) + 1e-9)
    found: NDArray[np.int64] = np.argmax(unit @ centres.T, axis=1)
    return found
