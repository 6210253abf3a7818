"""Blocks, candidates and draws against plain sorting and counting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.draws import argmax, block_sums, draw, draw_in_blocks, largest, nucleus, peaks_of

SIZES = st.sampled_from([1, 5, 63, 64, 65, 128, 300, 700])


def rows_of(size: int, seed: int, levels: int = 40) -> torch.Tensor:
    """Three rows with many equal values, and some of -inf."""
    found = np.random.default_rng(seed).integers(0, levels, (3, size)).astype(np.float32) / 8
    found[:, 1:][found[:, 1:] == 0] = -np.inf
    return torch.from_numpy(found)


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(0, 10_000), st.integers(1, 20))
def test_the_largest_are_those_of_a_sort_and_where_their_indices_say(size: int, seed: int, count: int) -> None:
    values = rows_of(size, seed)
    found, ids = largest(values, count)
    assert torch.equal(found, values.sort(-1, descending=True).values[:, :count])
    real = found > -torch.inf
    assert torch.equal(values.gather(1, ids.clamp(max=size - 1))[real], found[real])
    assert all(len(set(row.tolist())) == len(row) for row in ids)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(0, 10_000))
def test_the_argmax_is_the_first_of_equals(size: int, seed: int) -> None:
    values = rows_of(size, seed, levels=4)
    expected = [row.tolist().index(max(row.tolist())) for row in values]
    assert argmax(values, peaks_of(values)).tolist() == expected


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_shows_in_the_peaks(value: float) -> None:
    values = torch.zeros(2, 200)
    values[1, 150] = value
    assert peaks_of(values).amax(-1).isfinite().tolist() == [True, False]


@settings(max_examples=200, deadline=None)
@given(SIZES, st.integers(0, 10_000), st.integers(1, 40), st.floats(0.01, 1.0), st.floats(0.0, 0.9))
def test_a_nucleus_is_that_of_a_full_sort_or_says_that_it_is_not(
    size: int, seed: int, count: int, top_p: float, min_p: float
) -> None:
    probabilities = torch.softmax(rows_of(size, seed), -1)
    limits = torch.full((3, 1), top_p, dtype=torch.double), torch.full((3, 1), min_p)
    found = nucleus(probabilities, count, *limits)
    for row, weights, ids, is_whole in zip(probabilities, found.weights, found.ids, found.is_whole, strict=True):
        ranked = row.sort(descending=True).values
        before = np.cumsum(ranked.double().numpy()) - ranked.double().numpy()
        kept = (before < top_p) & (ranked >= torch.tensor(min_p) * ranked[0]).numpy() & (ranked > 0).numpy()
        kept[0] = True
        num_kept = int(kept.sum())
        assert torch.equal(weights[weights > 0], ranked[: min(num_kept, count)])
        assert torch.equal(row[ids[weights > 0]], weights[weights > 0])
        assert bool(is_whole) == (num_kept < count or count >= size)


def test_a_nucleus_ends_as_soon_as_its_mass_is_reached() -> None:
    """Two of four equal tokens are half of the mass; a third is one too many."""
    probabilities = torch.full((1, 4), 0.25)
    found = nucleus(probabilities, 4, torch.tensor([[0.5]], dtype=torch.double), torch.zeros(1, 1))
    assert (found.weights > 0).sum() == 2


@settings(max_examples=150, deadline=None)
@given(SIZES, st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_draw_is_where_the_cumulative_weight_passes_the_uniform(size: int, seed: int, uniform: float) -> None:
    """In blocks or not; eighths up to five add up exactly, so there is no rounding to forgive."""
    weights = rows_of(size, seed)
    weights[weights == -torch.inf] = 0
    weights[:, 0] += 1
    uniforms = torch.full((3, 1), uniform, dtype=torch.double)
    totals = weights.double().cumsum(-1)
    target = torch.minimum(uniforms * totals[:, -1:], torch.nextafter(totals[:, -1:], torch.zeros(1).double()))
    expected = [int((row <= limit).sum()) for row, limit in zip(totals, target[:, 0], strict=True)]
    assert draw(weights, uniforms).tolist() == expected
    several = draw_in_blocks(weights, block_sums(weights), uniforms.repeat(1, 3))
    assert several.tolist() == [[index] * 3 for index in expected]


@pytest.mark.parametrize("uniform", [0.0, 1.0, 1.0 - 2**-53])
def test_a_token_without_weight_is_never_drawn(uniform: float) -> None:
    weights = torch.zeros(1, 400)
    weights[0, 70], weights[0, 333] = 1e-30, 3.0
    uniforms = torch.tensor([[uniform]], dtype=torch.double)
    assert weights[0, draw(weights, uniforms)] > 0
    assert weights[0, draw_in_blocks(weights, block_sums(weights), uniforms)] > 0
