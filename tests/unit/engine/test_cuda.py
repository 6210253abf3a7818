"""On a CUDA device: every kind in one batch, uploads on streams of their own, replayed steps. Run with `pytest -m gpu`.

The CUDA engine is the one of the Triton kernels wherever Triton is installed.
"""

import asyncio

import pytest
import torch

from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask, ask_all
from tests.unit.engine.models import Reference, configs
from tests.unit.engine.test_parity import prompts

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
NAMES = list(configs())


@pytest.mark.parametrize("name", NAMES)
async def test_fp32_on_cuda_answers_as_peft_does(
    make_engine: MakeEngine, references: dict[str, Reference], name: str
) -> None:
    engine = make_engine(device="cuda")
    for ids in prompts(10):
        assert (await ask(engine, ids, [(references[name], 1.0)])).ids == references[name].greedy(ids, 12)


@pytest.mark.parametrize("settings", [{"quantization": "bf16"}, {"kv_dtype": "int8"}], ids=["bf16", "int8 cache"])
@pytest.mark.parametrize("name", NAMES)
async def test_rounded_values_choose_among_what_peft_finds_likeliest(
    make_engine: MakeEngine, references: dict[str, Reference], name: str, settings: dict[str, str]
) -> None:
    engine = make_engine(device="cuda", **settings)
    for ids in prompts(10):
        answer = await ask(engine, ids, [(references[name], 1.0)])
        logits = references[name].logits([*ids, *answer.ids])[len(ids) - 1 : len(ids) - 1 + len(answer.ids)]
        chosen = logits.gather(1, torch.tensor(answer.ids, dtype=torch.long)[:, None])[:, 0]
        assert (logits.amax(1) - chosen <= 0.05 * (logits.amax(1) - logits.amin(1))).all()


async def test_long_answers_are_those_of_peft(make_engine: MakeEngine, references: dict[str, Reference]) -> None:
    """Through many replays and over many blocks, three experts side by side."""
    engine, names = make_engine(device="cuda"), ["lora", "dora", "lokr"]
    asks = [(ids, [(references[name], 1.0)]) for name, ids in zip(names, prompts(3, longest=20), strict=True)]
    answers = await asyncio.gather(*(ask(engine, ids, experts, max_tokens=100) for ids, experts in asks))
    for name, (ids, _), answer in zip(names, asks, answers, strict=True):
        assert answer.ids == references[name].greedy(ids, 100)


async def test_replayed_and_plain_steps_give_the_same_answers(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    """Full batches, mixtures and the base among them; in between, swaps into slots that recorded steps read."""
    fused, plain = (make_engine(device="cuda", kernels=kernels, num_slots=3) for kernels in ("fused", "plain"))
    asks = [
        (ids, [(references[NAMES[(i + n) % len(NAMES)]], 1.0 - n / 4) for n in range(i % 4)])
        for i, ids in enumerate(prompts(24))
    ]
    answers = [await ask_all(engine, asks) for engine in (fused, plain)]
    assert [answer.ids for answer in answers[0]] == [answer.ids for answer in answers[1]]
    assert fused.stats().swaps > len(NAMES)


async def test_a_swap_is_timed_by_the_device(make_engine: MakeEngine, references: dict[str, Reference]) -> None:
    engine = make_engine(device="cuda")
    first, again = [await ask(engine, [8, 9], [(references["dora"], 1.0)]) for _ in range(2)]
    assert first.timings and again.timings
    assert 0 < first.timings.swap_ms < first.timings.total_ms and again.timings.swap_ms == 0


@pytest.mark.parametrize("quantization", ["bf16", "nf4"])
async def test_one_slot_and_ten_give_the_same_answers(
    make_engine: MakeEngine, references: dict[str, Reference], quantization: str
) -> None:
    """Swapping under load: a copy that did not wait for the step before it would change an answer."""
    wide = make_engine(device="cuda", quantization=quantization)
    narrow = make_engine(device="cuda", quantization=quantization, num_slots=1, max_batch=1)
    asks = [(ids, [(references[NAMES[i % len(NAMES)]], 1.0)]) for i, ids in enumerate(prompts(24))]
    alone = [(await ask(wide, ids, experts)).ids for ids, experts in asks]
    assert [answer.ids for answer in await ask_all(narrow, asks)] == alone
    assert narrow.stats().swaps >= len(NAMES)
