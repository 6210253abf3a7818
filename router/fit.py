"""Fitting: a network of at most one hidden layer, and the temperature that makes its scores mean something.

Owns the mathematics of training, in numpy. Knows no text and no experts' names. Called by `train`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FitConfig:
    hidden: int = 256  # 0: linear
    epochs: int = 20
    batch: int = 256
    rate: float = 2e-3
    decay: float = 1e-4
    dropout: float = 0.4
    noise: int = 0
    """The first so many columns are dropped at random as hidden ones are: an embedding must not decide alone."""
    balance: float = 0.1
    """Weight of the balance loss at the start; it falls to 0 in a straight line (real traffic is not balanced)."""
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Epoch:
    loss: float
    entropy: float
    """Of the routing distribution, a mean over rows, in nats."""
    usage: tuple[float, ...]
    """Mean probability of each output."""


@dataclass(frozen=True, slots=True)
class Network:
    hidden: Array  # [columns, hidden]; [0, 0] where it is linear
    hidden_bias: Array
    out: Array
    out_bias: Array

    def logits(self, rows: Array) -> Array:
        if self.hidden.size:
            rows = np.asarray(np.maximum(rows @ self.hidden + self.hidden_bias, 0), np.float32)
        return np.asarray(rows @ self.out + self.out_bias, np.float32)


def fit_network(
    rows: Array, targets: Array, config: FitConfig, note: Callable[[int, Epoch], None] | None = None
) -> Network:
    """Adam on the cross entropy of all outputs, against targets that share 1 among the right ones, plus that of each
    output by itself, plus the balance loss of Switch Transformer (Fedus et al., 2021) over the experts.

    `rows` [n, columns]; `targets` [n, outputs] of 0 and 1, at least one 1 a row, the last output being `none`.
    """
    rng = np.random.default_rng(config.seed)
    parameters = _initial(rng, rows.shape[1], targets.shape[1], config.hidden)
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    shares = targets / targets.sum(axis=1, keepdims=True)
    steps, done = config.epochs * -(-len(rows) // config.batch), 0
    for epoch in range(config.epochs):
        total, entropy, usage = 0.0, 0.0, np.zeros(targets.shape[1])
        for chosen in _batches(rng, len(rows), config.batch):
            done += 1
            weight = config.balance * (1 - done / steps)
            loss, probabilities, gradients = _gradients(
                rng,
                parameters,
                _dropped(rng, rows[chosen], config),
                targets[chosen],
                shares[chosen],
                config.dropout,
                weight,
            )
            rate = config.rate * 0.5 * (1 + float(np.cos(np.pi * done / steps)))
            _adam(parameters, moments, gradients, rate, config.decay, done)
            total += loss * len(chosen)
            entropy -= float((probabilities * np.log(probabilities + 1e-9)).sum())
            usage += probabilities.sum(axis=0)
        if note is not None:
            size = len(rows)
            note(epoch + 1, Epoch(total / size, entropy / size, tuple(float(u) for u in usage / size)))
    return Network(*parameters)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Array = powers / powers.sum(axis=-1, keepdims=True)
    return found


def sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -40, 40))), np.float32)


def fit_temperature(logits: Array, labels: NDArray[np.int64]) -> float:
    """That which makes the labels likeliest (Guo et al., 2017), from a grid of ratios of 2 %."""

    def surprise(temperature: float) -> float:
        scaled = np.asarray(logits / temperature, np.float32)
        probabilities = softmax(scaled)[np.arange(len(labels)), labels]
        return float(-np.log(probabilities + 1e-12).mean())

    return min((float(t) for t in 0.05 * 1.02 ** np.arange(270)), key=surprise)


def expected_calibration_error(confidence: Array, is_right: NDArray[np.bool_], num_bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their rows."""
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = [
        abs(confidence[bins == number].mean() - is_right[bins == number].mean()) * (bins == number).mean()
        for number in set(bins.tolist())
    ]
    return float(sum(gaps))


def wilson_lower(right: int, total: int, z: float = 1.96) -> float:
    """Lower end of the score interval (Wilson, 1927) of a share, at 95 %."""
    if total == 0:
        return 0.0
    share = right / total
    centre = share + z * z / (2 * total)
    spread = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return float((centre - spread) / (1 + z * z / total))


def _initial(rng: np.random.Generator, columns: int, outputs: int, hidden: int) -> list[Array]:
    def matrix(rows: int, width: int) -> Array:
        return np.asarray(rng.standard_normal((rows, width)) * np.sqrt(2 / max(rows, 1)), np.float32)

    if not hidden:
        return [*(np.zeros(shape, np.float32) for shape in ((0, 0), (0,), (columns, outputs), (outputs,)))]
    return [
        matrix(columns, hidden),
        np.zeros(hidden, np.float32),
        matrix(hidden, outputs),
        np.zeros(outputs, np.float32),
    ]


def _batches(rng: np.random.Generator, count: int, size: int) -> list[NDArray[np.int64]]:
    order = rng.permutation(count)
    return [order[start : start + size] for start in range(0, count, size)]


def _dropped(rng: np.random.Generator, rows: Array, config: FitConfig) -> Array:
    if not config.noise:
        return rows
    keep = (rng.random((len(rows), config.noise)) >= config.dropout) / np.float32(1 - config.dropout)
    kept = rows[:, : config.noise] * keep
    return np.concatenate((kept, rows[:, config.noise :]), axis=1).astype(np.float32)


def _gradients(
    rng: np.random.Generator,
    parameters: list[Array],
    rows: Array,
    targets: Array,
    shares: Array,
    dropout: float,
    balance: float,
) -> tuple[float, Array, list[Array]]:
    hidden, hidden_bias, out, out_bias = parameters
    active, mask = rows, np.ones((1, 1), np.float32)
    if hidden.size:
        before = rows @ hidden + hidden_bias
        kept = (before > 0) & (rng.random(before.shape) >= dropout)
        mask = kept.astype(np.float32) / np.float32(1 - dropout)
        active = before * mask
    logits = active @ out + out_bias
    joint, alone = softmax(logits), sigmoid(logits)
    size = np.float32(len(rows))
    loss = -float((shares * np.log(joint + 1e-9)).sum() / size)
    loss -= float((targets * np.log(alone + 1e-9) + (1 - targets) * np.log(1 - alone + 1e-9)).sum() / size)
    slope = (joint - shares + alone - targets) / size
    if balance:
        pull = np.zeros(joint.shape[1], np.float32)
        experts = joint[:, :-1]
        pull[:-1] = balance * experts.shape[1] * np.bincount(experts.argmax(axis=1), minlength=len(pull) - 1) / size
        loss += float(pull @ joint.mean(axis=0))
        slope += joint * (pull - (joint * pull).sum(axis=1, keepdims=True)) / size
    gradients = [active.T @ slope, slope.sum(axis=0)]
    if not hidden.size:
        return loss, joint, [np.zeros_like(hidden), np.zeros_like(hidden_bias), *gradients]
    back = slope @ out.T * mask
    return loss, joint, [rows.T @ back, back.sum(axis=0), *gradients]


def _adam(
    parameters: list[Array],
    moments: list[tuple[Array, Array]],
    gradients: list[Array],
    rate: float,
    decay: float,
    step: int,
) -> None:
    for parameter, (first, second), gradient in zip(parameters, moments, gradients, strict=True):
        first += 0.1 * (gradient - first)
        second += 0.001 * (gradient * gradient - second)
        scaled = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        parameter -= np.float32(rate) * (scaled + decay * parameter).astype(np.float32)
