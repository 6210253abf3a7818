"""The words themselves: a linear model over the hashed features of a prompt and of its skeleton.

An embedding of a hundred numbers forgets which words it was made of; this does not. Owns its features, its fit and its
logits. Called by `learned` beside the network, whose opinion it is averaged with.
"""

from collections.abc import Sequence

import numpy as np

from router.bag import bag_of
from router.fit import Array, sigmoid, softmax

NUM_BUCKETS = 1 << 16
_BATCH, _EPOCHS, _RATE = 128, 4, 0.02
_KEPT = 0.8
"""Share of a row's features that a step of the fit sees."""


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
    """Table [NUM_BUCKETS, outputs] and bias, by Adagrad (Duchi et al., 2011) on the network's loss."""
    rng = np.random.default_rng(seed)
    table, bias = np.zeros((NUM_BUCKETS, targets.shape[1]), np.float32), np.zeros(targets.shape[1], np.float32)
    squares, bias_squares = np.full_like(table, 1e-6), np.full_like(bias, 1e-6)
    shares = targets / targets.sum(axis=1, keepdims=True)
    arrays = [np.array(bag, np.int64) for bag in bags]
    for epoch in range(_EPOCHS):
        rate = np.float32(_RATE * (1 - epoch / _EPOCHS))
        for rows in np.array_split(rng.permutation(len(bags)), max(len(bags) // _BATCH, 1)):
            kept = [arrays[row][rng.random(len(arrays[row])) < _KEPT] for row in rows]
            columns, places = np.unique(np.concatenate(kept), return_inverse=True)
            dense = np.zeros((len(rows), len(columns)), np.float32)
            dense[np.repeat(np.arange(len(rows)), [len(bag) for bag in kept]), places] = 1
            dense *= idf[columns]
            dense /= np.linalg.norm(dense, axis=1, keepdims=True) + 1e-9
            logits = dense @ table[columns] + bias
            slope = softmax(logits) - shares[rows] + sigmoid(logits) - targets[rows]
            pull = dense.T @ slope
            squares[columns] += pull * pull
            table[columns] -= rate * 5 * pull / np.sqrt(squares[columns])
            drift = slope.sum(axis=0)
            bias_squares += drift * drift
            bias -= rate * drift / np.sqrt(bias_squares)
    return table, bias
