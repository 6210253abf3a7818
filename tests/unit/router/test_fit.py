"""Training's mathematics on problems whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from router.fit import (
    Array,
    Epoch,
    FitConfig,
    expected_calibration_error,
    fit_network,
    fit_temperature,
    softmax,
    wilson_lower,
)

CONFIG = FitConfig(hidden=16, epochs=60, batch=32, rate=1e-2, dropout=0.0)


def exclusive_or(count: int = 400) -> tuple[Array, Array]:
    """Two inputs of which exactly one has to be set: no linear network can say it."""
    rows = np.random.default_rng(1).integers(0, 2, (count, 2)).astype(np.float32)
    label = (rows[:, 0] != rows[:, 1]).astype(int)
    return rows, np.eye(2, dtype=np.float32)[label]


def test_a_hidden_layer_learns_what_a_linear_one_cannot() -> None:
    rows, targets = exclusive_or()
    right = {}
    for hidden in (0, 16):
        found = fit_network(rows, targets, replace(CONFIG, hidden=hidden))
        right[hidden] = (found.logits(rows).argmax(axis=1) == targets.argmax(axis=1)).mean()
    assert right[16] == 1.0 > 0.9 > right[0]


def test_the_same_seed_makes_the_same_network() -> None:
    rows, targets = exclusive_or()
    one, two, other = (fit_network(rows, targets, replace(CONFIG, seed=seed)).out for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_the_balance_loss_spreads_the_experts() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((600, 4)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[(rng.random(600) < 0.1).astype(int)]
    usage: dict[float, Epoch] = {}
    for balance in (0.0, 5.0):
        config = replace(CONFIG, epochs=4, balance=balance)
        epochs: list[Epoch] = []
        fit_network(rows, targets, config, lambda _, epoch, to=epochs: to.append(epoch))  # type: ignore[misc]
        usage[balance] = epochs[-1]
    assert abs(np.diff(usage[5.0].usage[:2])) < abs(np.diff(usage[0.0].usage[:2]))


def test_temperature_finds_how_much_too_sure_the_scores_are() -> None:
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((4000, 3)).astype(np.float32) * 2
    labels = np.array([rng.choice(3, p=row / row.sum()) for row in softmax(logits).astype(np.float64)])
    assert fit_temperature(logits * 3, labels) == pytest.approx(3.0, rel=0.15)


def test_calibration_error_is_the_gap_between_saying_and_being_right() -> None:
    sure = np.full(100, 0.9, np.float32)
    assert expected_calibration_error(sure, np.arange(100) < 90) == pytest.approx(0.0, abs=1e-6)
    assert expected_calibration_error(sure, np.arange(100) < 50) == pytest.approx(0.4, abs=1e-6)


def test_the_lower_bound_is_wilsons() -> None:
    assert wilson_lower(990, 1000) == pytest.approx(0.9817, abs=1e-4)
    assert wilson_lower(0, 0) == 0.0
