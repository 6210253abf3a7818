"""The words themselves: a linear model over the hashed features of a prompt and of its skeleton.

An embedding of a hundred numbers forgets which words it was made of; this does not. Owns its features, its fit and its
logits. Called by `learned` beside the network, whose opinion it is averaged with.
"""

from collections.abc import Sequence

import numpy as np

from router.bag import bag_of
from router.fit import Array

NUM_BUCKETS = 1 << 16
_EPOCHS = 12
_COST = 0.6
"""Of a row on the wrong side of its margin, against the length of the weights."""


def lexical_bag(text: str, skeleton: str) -> list[int]:
    """Distinct buckets; a word of the skeleton lies elsewhere than the same word of the text."""
    whole = bag_of(text, NUM_BUCKETS)
    return sorted({*whole, *(bucket ^ 0x5555 for bucket in bag_of(skeleton, NUM_BUCKETS))})


def lexical_logits(bag: Sequence[int], idf: Array, table: Array, bias: Array) -> Array:
    """[outputs], of a bag whose features weigh by their rarity and together have length one."""
    if not bag:
        return bias
    weights = idf.take(bag)
    found: Array = weights @ table.take(bag, axis=0) / np.float32(np.sqrt(weights @ weights) + 1e-9) + bias
    return found


def fit_idf(bags: Sequence[Sequence[int]]) -> Array:
    """Rarity of every bucket, as scikit-learn has it: ln((1 + rows) / (1 + rows with it)) + 1; 0 if no row has it."""
    counts = np.bincount(np.concatenate([np.array(bag, np.int64) for bag in bags]), minlength=NUM_BUCKETS)
    rarity = np.log((1 + len(bags)) / (1 + counts)) + 1
    return np.where(counts > 0, rarity, 0).astype(np.float32)


def fit_lexical(bags: Sequence[Sequence[int]], targets: Array, idf: Array, seed: int) -> tuple[Array, Array]:
    """Table [NUM_BUCKETS, outputs] and bias: a linear support vector machine for each output, one against the rest.

    Dual coordinate descent on the squared hinge loss (Hsieh et al., 2008), all outputs at a time; the bias is the
    weight of a feature that every row has.
    """
    rng = np.random.default_rng(seed)
    outputs = targets.shape[1]
    table, bias = np.zeros((NUM_BUCKETS, outputs), np.float32), np.zeros(outputs, np.float32)
    signs = (2 * targets - 1).astype(np.float32)
    duals = np.zeros((len(bags), outputs), np.float32)
    softness = np.float32(1 / (2 * _COST))
    curvature = 2 + softness  # a row's features have length one, and its bias feature is one
    columns = [np.array(bag, np.int64) for bag in bags]
    values = [idf[bag] / np.float32(np.linalg.norm(idf[bag]) + 1e-9) for bag in columns]
    for _ in range(_EPOCHS):
        for row in rng.permutation(len(bags)).tolist():
            bag, value, sign, dual = columns[row], values[row], signs[row], duals[row]
            slope = sign * (value @ table.take(bag, axis=0) + bias) - 1 + softness * dual
            moved = np.maximum(dual - slope / curvature, 0)
            step = (moved - dual) * sign
            duals[row] = moved
            table[bag] += value[:, None] * step
            bias += step
    return table, bias
