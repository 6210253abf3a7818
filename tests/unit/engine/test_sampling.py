"""Sampling parameters through the running engine: what ends an answer, and what is told about its tokens."""

from pathlib import Path

import pytest
import torch

from engine.errors import SamplingInvalid
from engine.request import FinishReason
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask
from tests.unit.engine.models import EOS, VOCAB, Reference, greedy, load_reference

PROMPT = [8, 9, 10, 44]


async def test_a_stop_id_ends_the_answer_and_is_not_shown(make_engine: MakeEngine) -> None:
    engine = make_engine()
    free = await ask(engine, PROMPT)
    stop = free.ids[3]
    held = await ask(engine, PROMPT, stop_ids=(stop,))
    assert held.ids == free.ids[: free.ids.index(stop)]
    assert held.finish is FinishReason.STOP


async def test_min_tokens_and_ignore_eos_keep_an_answer_going(make_engine: MakeEngine) -> None:
    engine = make_engine()
    eager = ((EOS, 100.0),)
    assert (await ask(engine, PROMPT, logit_bias=eager)).ids == []
    held = await ask(engine, PROMPT, logit_bias=eager, min_tokens=5)
    assert len(held.ids) == 5 and held.finish is FinishReason.STOP
    endless = await ask(engine, PROMPT, logit_bias=eager, ignore_eos=True)
    assert len(endless.ids) == 12 and endless.finish is FinishReason.LENGTH and EOS not in endless.ids


async def test_logprobs_equal_those_of_transformers(make_engine: MakeEngine, base: Path) -> None:
    engine, model = make_engine(), load_reference(base)
    answer = await ask(engine, PROMPT, logprobs=3, temperature=0.7, seed=5, repetition_penalty=1.3)
    with torch.inference_mode():
        logits = model(torch.tensor([[*PROMPT, *answer.ids]])).logits[0]
    expected = torch.log_softmax(logits, -1)[len(PROMPT) - 1 :]
    assert len(answer.logprobs) == len(answer.ids) > 0
    for token, found, row in zip(answer.ids, answer.logprobs, expected, strict=False):
        assert found.drawn == pytest.approx(row[token].item(), abs=1e-4)
        assert [value for _, value in found.top] == pytest.approx(row.topk(3).values.tolist(), abs=1e-4)
        assert [token for token, _ in found.top] == row.topk(3).indices.tolist()


async def test_asking_for_logprobs_changes_no_answer(make_engine: MakeEngine, references: dict[str, Reference]) -> None:
    engine, experts = make_engine(), [(references["dora"], 1.0)]
    plain = await ask(engine, PROMPT, experts)
    told = await ask(engine, PROMPT, experts, logprobs=0)
    assert told.ids == plain.ids and not plain.logprobs
    assert all(found.top == () for found in told.logprobs)


async def test_neutral_values_change_nothing(make_engine: MakeEngine, base: Path) -> None:
    engine = make_engine()
    neutral = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": (), "min_tokens": 0}
    assert (await ask(engine, PROMPT, **neutral)).ids == greedy(load_reference(base), PROMPT, 12)  # type: ignore[arg-type]


async def test_fewer_than_no_logprobs_are_refused_and_the_engine_lives(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with pytest.raises(SamplingInvalid, match="logprobs is -1"):
        await ask(engine, PROMPT, logprobs=-1)
    assert (await ask(engine, PROMPT)).ids


@pytest.mark.parametrize(("field", "value"), [("logit_bias", ((VOCAB, 1.0),)), ("stop_ids", (-1,))])
async def test_a_token_that_the_base_lacks_is_refused_with_the_limit(
    make_engine: MakeEngine, field: str, value: object
) -> None:
    with pytest.raises(SamplingInvalid, match=f"{field} names token .* ids go from 0 to {VOCAB - 1}"):
        await ask(make_engine(), PROMPT, **{field: value})  # type: ignore[arg-type]
