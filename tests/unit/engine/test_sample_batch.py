"""A row gets exactly the token, or the error, that it gets alone, whatever the batch holds."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, GrammarDeadEnd, LogitsInvalid
from engine.request import SamplingParams
from engine.sampler import sample_batch
from engine.sequence import Sequence
from tests.unit.engine.test_sampler import AllowedSet

PARAMS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.0, 0.3, 0.7, 1.0, 5.0, 1e-35]),
        "top_k": st.sampled_from([0, 0, 0, 1, 3, 128, 500]),
        "top_p": st.sampled_from([1.0, 1.0, 0.9, 0.999]),
        "min_p": st.sampled_from([0.0, 0.0, 0.05]),
        "repetition_penalty": st.sampled_from([1.0, 1.0, 1.3]),
        "frequency_penalty": st.sampled_from([0.0, 0.5]),
        "logit_bias": st.sampled_from([(), (), ((2, 3.0), (4, -9.0))]),
        "min_tokens": st.sampled_from([0, 4]),
        "seed": st.integers(0, 5),
    }
)
GRAMMARS = st.sampled_from(["free", "free", "even", "few", "none"])
FAULTS = st.sampled_from(["sound", "sound", "sound", "sound", "nan", "inf"])


def matcher_of(grammar: str, size: int) -> AllowedSet | None:
    allowed = {"even": range(0, size, 2), "few": range(size - 2, size), "none": range(0)}
    return AllowedSet(*allowed[grammar], size=size) if grammar in allowed else None


def sequence(number: int, size: int, params: dict[str, Any], grammar: str) -> Sequence:
    output = [(number * 7 + index) % size for index in range(number % 4)]
    return Sequence(number, (0, 1), (), SamplingParams(**params), matcher_of(grammar, size), 100, output_ids=output)


def outcome(found: int | EngineError) -> int | type[EngineError]:
    return type(found) if isinstance(found, EngineError) else found


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(PARAMS, GRAMMARS, FAULTS), min_size=1, max_size=8),
    st.sampled_from([6, 97, 704, 20_000]),
    st.integers(0, 1000),
    st.sampled_from([0.5, 3.0, 8.0]),
)
def test_a_row_gets_in_a_batch_what_it_gets_alone(
    rows: list[tuple[dict[str, Any], str, str]], size: int, seed: int, spread: float
) -> None:
    logits = torch.randn(len(rows), size, generator=torch.Generator().manual_seed(seed)) * spread
    for row, (_, _, fault) in zip(logits, rows, strict=True):
        row[5] = {"sound": float(row[5]), "nan": torch.nan, "inf": torch.inf}[fault]
    sequences = [sequence(number, size, params, grammar) for number, (params, grammar, _) in enumerate(rows)]
    together = [outcome(found) for found in sample_batch(logits.clone(), sequences, {3})]
    alone = [
        outcome(sample_batch(logits[number : number + 1].clone(), [one], {3})[0])
        for number, one in enumerate(sequences)
    ]
    assert together == alone
    for found, (_, grammar, fault) in zip(together, rows, strict=True):
        assert (found is LogitsInvalid) == (fault != "sound")
        assert (found is GrammarDeadEnd) == (grammar == "none" and fault == "sound")


@pytest.mark.parametrize("params", [{}, {"top_k": 50}, {"top_p": 0.9}, {"top_p": 0.9999}, {"min_p": 0.01}])
def test_every_place_in_a_large_batch_is_as_good(params: dict[str, Any]) -> None:
    """One row thirty times over, on a vocabulary of several thousand blocks."""
    logits = torch.randn(1, 151_936, generator=torch.Generator().manual_seed(1)) * 2
    sampling = SamplingParams(temperature=1.0, seed=4, **params)
    sequences = [Sequence(number, (1,), (), sampling, None, 100) for number in range(12)]
    assert len(set(sample_batch(logits.repeat(12, 1), sequences))) == 1


def test_a_step_without_a_row_to_draw_draws_nothing() -> None:
    assert sample_batch(torch.empty(0, 97), []) == []


def test_a_nucleus_beyond_the_first_candidates_is_drawn_from_all_of_it() -> None:
    """Nine hundred equal tokens: a draw that stopped at the first candidates would never reach the others."""
    logits = torch.zeros(600, 900)
    sequences = [
        Sequence(n, (1,), (), SamplingParams(temperature=1.0, seed=n, top_p=0.95), None, 100) for n in range(600)
    ]
    found = sample_batch(logits, sequences)
    assert len(set(found)) > 350
