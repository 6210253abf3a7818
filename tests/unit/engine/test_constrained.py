"""A row under a grammar gets the masked distribution, and the same token whether the mask was made first or never."""

import math
import random
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.constrained import SPAN, ConstrainedRow, best_allowed, is_in_nucleus, likeliest, uniforms
from engine.draws import block_sums, draw_in_blocks
from engine.errors import GrammarDeadEnd
from engine.request import SamplingParams
from engine.sampler import sample_batch
from engine.sequence import Sequence
from tests.unit.engine.test_sampler import AllowedSet

SIZES = st.sampled_from([1, 2, 3, 6, 63, 65, 130, 700])
PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([1.0, 1.0, 0.3, 4.0, 1e-35]),
    top_k=st.sampled_from([0, 0, 0, 1, 2, 5, 50, 1000]),
    top_p=st.sampled_from([1.0, 0.9, 0.9, 0.5, 0.25, 0.99, 1e-9]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 0.5, 1.0]),
)


class HotSet(AllowedSet):
    """Its mask is always at hand."""

    def hot_mask(self) -> NDArray[np.bool_] | None:
        return self.mask()


def logits_of(size: int, seed: int, kind: str) -> NDArray[np.float32]:
    """Ties and tokens that do not exist, spread out, or all equal; one at least can be drawn."""
    numbers = np.random.default_rng(seed)
    found = {
        "ties": numbers.integers(-4, 4, size) / 2,
        "spread": numbers.normal(0, 5, size),
        "equal": np.zeros(size),
        "zipf": np.log(1 / numbers.permutation(np.arange(1.0, size + 1))),
    }[kind].astype(np.float32)
    found[numbers.random(size) < 0.1] = -np.inf
    found[numbers.integers(size)] = 1.0
    return found


def allowed_of(logits: NDArray[np.float32], seed: int, kind: str) -> set[int]:
    """Of the tokens that can be drawn, one at least."""
    numbers = np.random.default_rng(seed + 1)
    ids = np.flatnonzero(logits > -np.inf)
    share = {"most": 0.97, "half": 0.5, "few": 0.05, "one": 0.0}[kind]
    return {int(numbers.choice(ids)), *ids[numbers.random(len(ids)) < share].tolist()}


def row_of(logits: NDArray[np.float32], params: SamplingParams, seed: int, matcher: AllowedSet) -> ConstrainedRow:
    shifted = torch.from_numpy(logits - logits.max())[None] / max(params.temperature, 1e-30)
    weights = torch.softmax(shifted, -1)
    sums = block_sums(weights)
    numbers = torch.tensor([uniforms(seed)], dtype=torch.double)
    proposals = draw_in_blocks(weights, sums, numbers)[0].tolist()
    return ConstrainedRow(
        logits, weights[0].numpy(), sums[0].numpy(), int(logits.argmax()), proposals, seed, params, matcher
    )


@settings(max_examples=300, deadline=None)
@given(
    SIZES,
    st.integers(0, 10_000),
    st.sampled_from(["ties", "spread", "equal", "zipf"]),
    st.sampled_from(["most", "half", "few", "one"]),
    PARAMS,
)
def test_masking_first_gives_the_identical_token(
    size: int, seed: int, values: str, grammar: str, params: SamplingParams
) -> None:
    logits = logits_of(size, seed, values)
    allowed = allowed_of(logits, seed, grammar)
    for number in range(10):
        matcher = AllowedSet(*allowed, size=size)
        row = row_of(logits, params, number, matcher)
        masked_first = row.draw(matcher.mask())
        assert masked_first is not None
        assert row_of(logits, params, number, HotSet(*allowed, size=size)).draw(None) == masked_first
        verified = row.draw(None)
        assert masked_first == (row.draw(matcher.mask()) if verified is None else verified)
        assert masked_first in kept_of(logits, allowed, params)


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(0, 10_000), st.sampled_from(["ties", "spread", "equal"]), st.sampled_from(["half", "one"]))
def test_greedy_takes_the_first_of_the_likeliest_allowed_with_the_mask_or_without(
    size: int, seed: int, values: str, grammar: str
) -> None:
    logits = logits_of(size, seed, values)
    allowed = allowed_of(logits, seed, grammar)
    expected = min(allowed, key=lambda token: (-logits[token], token))
    matcher = AllowedSet(*allowed, size=size)
    assert best_allowed(logits, int(logits.argmax()), matcher, matcher.mask()) == expected
    assert best_allowed(logits, int(logits.argmax()), matcher, None) in (expected, None)


def kept_of(logits: NDArray[np.float32], allowed: Collection[int], params: SamplingParams) -> dict[int, float]:
    """The masked, truncated distribution, written out: top-k, then top-p, then min-p. Ties go by id.

    What lies within rounding of a limit is kept.
    """
    ranked = sorted(allowed, key=lambda token: (-logits[token], token))[: params.top_k or None]
    scaled = (logits[ranked].astype(np.float64) - float(logits[ranked[0]])) / params.temperature
    shares = np.exp(scaled) / np.exp(scaled).sum()
    ahead = np.concatenate([[0.0], np.cumsum(shares)[:-1]])
    keep = (ahead < params.top_p + 1e-5) & (shares >= params.min_p * shares[0] * (1 - 1e-5))
    keep[0] = True
    kept = shares[keep] / shares[keep].sum()
    return dict(zip(np.array(ranked)[keep].tolist(), kept.tolist(), strict=True))


def chi_square(found: Counter[int], expected: dict[int, float]) -> tuple[float, float]:
    """The statistic, and what it exceeds once in ten thousand (Wilson and Hilferty 1931). Rare tokens count as one."""
    count = found.total()
    often = {token: share for token, share in expected.items() if share * count >= 8}
    cells = [(found[token], share * count) for token, share in often.items()]
    rest = count * (1 - sum(often.values()))
    if rest > 1e-6 * count:
        cells.append((count - sum(observed for observed, _ in cells), rest))
    freedom = len(cells) - 1
    limit = freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3
    return sum((observed - share) ** 2 / share for observed, share in cells), limit


def drawn(
    logits: NDArray[np.float32], allowed: Collection[int], params: dict[str, Any], make: Callable[..., AllowedSet]
) -> Counter[int]:
    """Of two thousand rows with a seed each."""
    matcher = make(*allowed, size=len(logits))
    rows = [
        Sequence(seed, (0,), (), SamplingParams(temperature=1.0, seed=seed, **params), matcher, 100)
        for seed in range(2000)
    ]
    found = sample_batch(torch.from_numpy(logits).repeat(len(rows), 1), rows)
    return Counter(token for token in found if isinstance(token, int))


TRUNCATIONS: list[dict[str, Any]] = [
    {},
    {"top_p": 0.9},
    {"top_p": 0.5},
    {"min_p": 0.05},
    {"top_k": 20},
    {"top_k": 30, "top_p": 0.8, "min_p": 0.02},
]


@pytest.mark.parametrize("params", TRUNCATIONS, ids=str)
@pytest.mark.parametrize("make", [AllowedSet, HotSet], ids=["cold", "hot"])
@pytest.mark.parametrize("grammar", ["most", "half", "tail"])
def test_seeded_draws_follow_the_masked_distribution(
    params: dict[str, Any], make: Callable[..., AllowedSet], grammar: str
) -> None:
    """An allowed token has a third, the others a Zipf tail; or only some far down the tail are allowed."""
    logits = logits_of(300, 5, "zipf")
    if grammar == "tail":
        allowed = set(np.argsort(-logits)[30:60].tolist())
    else:
        allowed = allowed_of(logits, 5, grammar)
        logits[max(allowed)] = np.log(0.5 * np.exp(logits).sum())
    expected = kept_of(logits, allowed, SamplingParams(temperature=1.0, **params))
    found = drawn(logits, allowed, params, make)
    assert found.total() == 2000 and set(found) <= set(expected)
    statistic, limit = chi_square(found, expected)
    assert statistic < limit


def test_the_chi_square_notices_a_nucleus_of_all_tokens() -> None:
    """What trying the next of the unmasked nucleus would draw is another distribution, and far beyond the limit."""
    logits = logits_of(300, 5, "zipf")
    allowed = allowed_of(logits, 5, "half")
    params = SamplingParams(temperature=1.0, top_p=0.7)
    unmasked = kept_of(logits, set(np.flatnonzero(logits > -np.inf).tolist()), params)
    tried = {token: share for token, share in unmasked.items() if token in allowed}
    wrong = Counter(random.Random(1).choices(list(tried), list(tried.values()), k=2000))
    statistic, limit = chi_square(wrong, kept_of(logits, allowed, params))
    assert statistic > limit


@pytest.mark.parametrize("share", [0.9, 0.97])
def test_a_likely_allowed_token_needs_no_mask_under_truncation(share: float) -> None:
    logits = logits_of(5000, 3, "zipf")
    allowed = allowed_of(logits, 3, "most")
    token = max(allowed)
    logits[token] = np.log(share / (1 - share) * np.exp(logits).sum())
    matcher = AllowedSet(*allowed, size=5000)
    params = SamplingParams(temperature=1.0, top_p=0.9)
    rows = [row_of(logits, params, seed, matcher).draw(None) for seed in range(200)]
    assert rows.count(None) == 0 and set(rows) == {token}
    assert matcher.masks == 0


@pytest.mark.parametrize("num_threads", [1, 2, 8])
def test_rows_that_need_masks_get_them_in_threads_and_the_same_tokens(num_threads: int) -> None:
    logits = torch.zeros(6, 400)
    logits[:, 390:] = -30

    def rows() -> list[Sequence]:
        return [
            Sequence(seed, (1,), (), SamplingParams(temperature=1.0, seed=seed, top_p=0.9), matcher, 100)
            for seed, matcher in enumerate(AllowedSet(*range(390 + seed, 400), size=400) for seed in range(6))
        ]

    alone = rows()
    expected = sample_batch(logits.clone(), alone)
    with ThreadPoolExecutor(num_threads) as threads:
        assert sample_batch(logits.clone(), rows(), (), threads) == expected
    assert all(isinstance(row.matcher, AllowedSet) and row.matcher.masks == 1 for row in alone)


def test_a_mask_without_a_token_is_a_dead_end_of_its_row_alone() -> None:
    params = SamplingParams(temperature=1.0, top_p=0.9, seed=1)
    matchers = [AllowedSet(size=100), AllowedSet(4, size=100)]
    rows = [Sequence(number, (1,), (), params, matcher, 100) for number, matcher in enumerate(matchers)]
    dead, alive = sample_batch(torch.zeros(2, 100), rows)
    assert isinstance(dead, GrammarDeadEnd) and alive == 4


@settings(max_examples=100, deadline=None)
@given(SIZES, st.integers(0, 1000), st.sampled_from(["ties", "equal", "spread"]))
def test_the_likeliest_are_a_head_of_the_full_ranking(size: int, seed: int, values: str) -> None:
    logits = logits_of(size, seed, values)
    ids = likeliest(logits, SPAN).tolist()
    ranking = sorted(np.flatnonzero(logits > -np.inf).tolist(), key=lambda token: (-logits[token], token))
    assert ids == ranking[: len(ids)]
    assert len(ids) == len(ranking) if size <= SPAN else True


def test_a_nucleus_counts_ties_by_id() -> None:
    logits, weights = np.zeros(4, np.float32), np.full(4, 0.25, np.float32)
    mask = np.array([True, False, True, True])
    kept = [token for token in (0, 2, 3) if is_in_nucleus(token, logits, weights, mask, SamplingParams(1.0, top_p=0.6))]
    assert kept == [0, 2]
    assert not is_in_nucleus(2, logits, weights, mask, SamplingParams(1.0, top_k=1))
