"""Draws follow the masked distribution, whatever path they take, and a seed fixes them."""

from collections import Counter
from collections.abc import Collection
from collections.abc import Sequence as Ids
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import EngineError, GrammarDeadEnd, LogitsInvalid
from engine.request import SamplingParams
from engine.sampler import describe, sample_batch, truncate
from engine.sequence import Sequence

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, 3.0])


class AllowedSet:
    """A grammar of one step: a set of ids. Counts how often the whole mask is asked for."""

    is_complete = False
    must_stop = False

    def __init__(self, *allowed: int, size: int = len(LOGITS)) -> None:
        self.allowed, self.size, self.masks = set(allowed), size, 0

    def allows(self, token_id: int) -> bool:
        return token_id in self.allowed

    def allows_each(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.array([self.allows(token) for token in token_ids.tolist()], np.bool_)

    def hot_mask(self) -> NDArray[np.bool_] | None:
        return None

    def mask(self) -> NDArray[np.bool_]:
        self.masks += 1
        return np.array([token in self.allowed for token in range(self.size)])

    def forced_tokens(self) -> list[int]:
        return []

    def accept(self, token_id: int) -> None:
        assert self.allows(token_id)

    def close(self) -> None:
        pass


def take(logits: torch.Tensor, sequence: Sequence, eos_ids: Collection[int] = ()) -> int:
    """The token of a row alone; raises what ended it."""
    [found] = sample_batch(logits[None].clone(), [sequence], eos_ids)
    if isinstance(found, EngineError):
        raise found
    return found


def draw(matcher: AllowedSet | None = None, logits: torch.Tensor = LOGITS, output: Ids[int] = (), **params: Any) -> int:
    sampling = SamplingParams(**params)
    return take(logits, Sequence(1, (0, 1), (), sampling, matcher, 100, output_ids=list(output)))


def frequencies(count: int, matcher: AllowedSet | None = None, **params: Any) -> torch.Tensor:
    """Of `count` rows with a seed each, drawn in one batch."""
    rows = [Sequence(seed, (0, 1), (), SamplingParams(seed=seed, **params), matcher, 100) for seed in range(count)]
    found = Counter(sample_batch(LOGITS.repeat(count, 1), rows))
    return torch.tensor([found[token] / count for token in range(len(LOGITS))])


def test_greedy_takes_the_likeliest_token() -> None:
    assert draw() == 5


def test_greedy_under_a_grammar_takes_the_likeliest_allowed_token() -> None:
    assert draw(AllowedSet(1, 3, 4)) == 1


def test_greedy_finds_an_allowed_token_beyond_the_span_verified_first() -> None:
    logits = torch.arange(500.0)
    assert draw(AllowedSet(7, size=500), logits) == 7


@pytest.mark.parametrize("temperature", [0.5, 1.5])
def test_free_draws_follow_the_softmax(temperature: float) -> None:
    expected = torch.softmax(LOGITS / temperature, -1)
    assert (frequencies(4000, temperature=temperature) - expected).abs().max() < 0.03


@pytest.mark.parametrize("allowed", [(0, 1, 2, 3), (3, 4), (4,)])
def test_draws_under_a_grammar_follow_the_masked_softmax(allowed: tuple[int, ...]) -> None:
    masked = torch.full_like(LOGITS, -torch.inf)
    masked[list(allowed)] = LOGITS[list(allowed)]
    expected = torch.softmax(masked, -1)
    assert (frequencies(4000, AllowedSet(*allowed), temperature=1.0) - expected).abs().max() < 0.03


def test_truncation_keeps_the_nucleus_of_the_allowed_tokens_not_of_all() -> None:
    """Taking the nucleus first would leave token 5 alone, which the grammar forbids."""
    found = frequencies(500, AllowedSet(0, 1, 4), temperature=1.0, top_p=0.8)
    assert found[0] > 0.5 and found[1] > 0.1 and found[4] == 0 and found[5] == 0


def test_top_k_counts_allowed_tokens() -> None:
    found = frequencies(300, AllowedSet(1, 2, 3, 4), temperature=1.0, top_k=2)
    assert set(found.nonzero().flatten().tolist()) == {1, 2}


def test_an_unlikely_allowed_token_is_found_through_the_mask() -> None:
    logits = torch.zeros(400)
    logits[399] = -30
    matcher = AllowedSet(399, size=400)
    assert draw(matcher, logits, temperature=1.0, seed=4) == 399
    assert matcher.masks == 1


def test_a_grammar_without_a_way_on_is_an_error_not_a_token() -> None:
    choices: list[dict[str, Any]] = [{}, {"temperature": 1.0}, {"temperature": 1.0, "top_k": 2}]
    for params in choices:
        with pytest.raises(GrammarDeadEnd):
            draw(AllowedSet(), **params)


def test_ids_that_do_not_exist_are_never_drawn() -> None:
    logits = torch.full((50,), -torch.inf)
    logits[3] = 0
    assert {draw(None, logits, temperature=2.0, seed=seed) for seed in range(50)} == {3}


def test_a_seed_gives_one_answer_and_each_place_its_own_draw() -> None:
    assert len({draw(temperature=1.0, seed=9) for _ in range(20)}) == 1
    assert len({draw(temperature=1.0, seed=9, output=[1] * place) for place in range(40)}) > 1
    assert len({draw(temperature=1.5) for _ in range(200)}) > 1


def test_the_repetition_penalty_lowers_what_was_seen() -> None:
    assert draw(logits=torch.tensor([1.0, 2.0, 1.5]), repetition_penalty=2.0) == 2


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-8, 8), min_size=2, max_size=30),
    st.integers(0, 10),
    st.floats(0.05, 1.0),
    st.floats(0.0, 0.9),
)
def test_truncation_keeps_a_head_of_the_ranking_as_small_as_asked(
    values: list[float], k: int, p: float, m: float
) -> None:
    scaled = torch.tensor([values])
    probabilities = torch.softmax(scaled, -1)[0]
    found = truncate(scaled, [SamplingParams(temperature=1.0, top_k=k, top_p=p, min_p=m)], k or len(values))
    assert found.is_whole.all()
    alive = torch.zeros(len(values), dtype=torch.bool)
    alive[found.ids[found.weights > 0]] = True
    assert probabilities[alive].max() == probabilities.max()
    assert probabilities[alive].min() >= probabilities[~alive].max() if (~alive).any() else True
    assert alive.sum() <= k or k == 0
    assert (probabilities[alive] >= m * probabilities.max() * (1 - 1e-5)).all()


@pytest.mark.parametrize("temperature", [1e-40, 1e-12, 1e-3])
@pytest.mark.parametrize("matcher", [None, AllowedSet(1, 3)])
def test_a_tiny_temperature_is_greedy_and_overflows_nothing(temperature: float, matcher: AllowedSet | None) -> None:
    assert draw(matcher, temperature=temperature, seed=1) == (1 if matcher else 5)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_finite_are_an_error_not_a_token(value: float, temperature: float) -> None:
    logits = LOGITS.clone()
    logits[2] = value
    with pytest.raises(LogitsInvalid):
        draw(logits=logits, temperature=temperature)


def test_a_penalty_that_overflows_is_an_error_not_a_token() -> None:
    with pytest.raises(LogitsInvalid):
        draw(temperature=1.0, repetition_penalty=1e-40)


def test_a_bias_is_added_to_its_logit() -> None:
    assert draw(logit_bias=((3, 3.5),)) == 3
    assert draw(logit_bias=((5, -100.0),)) == 0


def test_presence_is_taken_off_once_and_frequency_every_time() -> None:
    assert draw(output=[5], presence_penalty=0.9) == 5
    assert draw(output=[5, 5, 5], presence_penalty=0.9) == 5
    assert draw(output=[5], presence_penalty=1.1) == 0
    assert draw(output=[5], frequency_penalty=0.4) == 5
    assert draw(output=[5, 5, 5], frequency_penalty=0.4) == 0


def test_penalties_of_the_answer_leave_the_prompt_alone() -> None:
    """The prompt of these sequences is tokens 0 and 1."""
    assert draw(logit_bias=((0, 2.0),), presence_penalty=2.0, frequency_penalty=2.0) == 0


@given(st.lists(st.integers(0, 5), max_size=8), st.floats(0, 2), st.floats(0, 2))
def test_penalties_are_those_of_openai(output: list[int], presence: float, frequency: float) -> None:
    expected = LOGITS.clone()
    for token in range(len(LOGITS)):
        expected[token] -= presence * (token in output) + frequency * output.count(token)
    best = {int(i) for i in (expected >= expected.max() - 1e-5).nonzero()}
    assert draw(output=output, presence_penalty=presence, frequency_penalty=frequency) in best


def draw_with_end(output: Ids[int] = (), matcher: AllowedSet | None = None, **params: Any) -> int:
    """Token 5, the likeliest, is the base's end."""
    sequence = Sequence(1, (0, 1), (), SamplingParams(**params), matcher, 100, output_ids=list(output))
    return take(LOGITS, sequence, eos_ids={5})


def test_no_end_is_drawn_before_its_time() -> None:
    assert draw_with_end([1], min_tokens=2) == 0
    assert draw_with_end([1, 1], min_tokens=2) == 5
    assert draw_with_end([1], min_tokens=2, stop_ids=(0,)) == 1
    assert draw_with_end([1, 1], ignore_eos=True, stop_ids=(0,)) == 0


def test_a_forbidden_end_is_not_drawn_under_a_grammar_either() -> None:
    assert draw_with_end(matcher=AllowedSet(4, 5), min_tokens=1) == 4
    assert {draw_with_end(matcher=AllowedSet(4, 5), ignore_eos=True, temperature=2.0, seed=s) for s in range(30)} == {4}


def test_logprobs_are_the_models_own() -> None:
    expected = torch.log_softmax(LOGITS, -1)
    found = describe(LOGITS, token=2, count=2)
    assert found.drawn == pytest.approx(expected[2].item())
    assert [token for token, _ in found.top] == [5, 0]
    assert [value for _, value in found.top] == pytest.approx([expected[5].item(), expected[0].item()])
    assert describe(LOGITS, 2, 0).top == () and len(describe(LOGITS, 2, 20).top) == len(LOGITS)
