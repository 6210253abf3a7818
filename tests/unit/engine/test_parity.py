"""The engine against transformers and PEFT: same base, same adapter, same tokens."""

import random
from pathlib import Path

import pytest
import torch

from engine.lowering import Lowering
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask, ask_all
from tests.unit.engine.models import VOCAB, Reference, configs, greedy, load_reference

NAMES = list(configs())


def prompts(count: int, seed: int = 3, longest: int = 30) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(6, VOCAB) for _ in range(rng.randint(1, longest))] for _ in range(count)]


async def test_the_base_alone_answers_as_transformers_does(make_engine: MakeEngine, base: Path) -> None:
    engine, model = make_engine(), load_reference(base)
    for ids in prompts(10):
        assert (await ask(engine, ids)).ids == greedy(model, ids, 12)


@pytest.mark.parametrize("name", NAMES)
async def test_an_adapter_answers_as_peft_does(
    make_engine: MakeEngine, references: dict[str, Reference], name: str
) -> None:
    engine, reference = make_engine(), references[name]
    for ids in prompts(10):
        assert (await ask(engine, ids, [(reference, 1.0)])).ids == reference.greedy(ids, 12)


async def test_one_batch_of_all_kinds_answers_as_each_alone(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine()
    asks = [(ids, [(references[NAMES[i % len(NAMES)]], 1.0)] if i % 7 else []) for i, ids in enumerate(prompts(28))]
    alone = [(await ask(engine, ids, experts)).ids for ids, experts in asks]
    assert [answer.ids for answer in await ask_all(engine, asks)] == alone


async def test_chunked_prefill_and_one_slot_change_no_answer(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    wide, narrow = make_engine(), make_engine(num_slots=1, max_step_tokens=7, max_batch=3)
    asks = [(ids, [(references[NAMES[i % len(NAMES)]], 1.0)]) for i, ids in enumerate(prompts(12))]
    expected = [answer.ids for answer in await ask_all(wide, asks)]
    assert [answer.ids for answer in await ask_all(narrow, asks)] == expected
    assert narrow.stats().swaps >= len(NAMES)


async def test_a_scarce_cache_preempts_and_changes_no_answer(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    roomy, scarce = make_engine(), make_engine(kv_blocks=9)
    asks = [(ids, [(references["lora"], 1.0)]) for ids in prompts(8, longest=40)]
    expected = [answer.ids for answer in await ask_all(roomy, asks)]
    assert [answer.ids for answer in await ask_all(scarce, asks)] == expected
    assert scarce.stats().preemptions > 0
    assert scarce.stats().kv_blocks_used == 0


async def test_a_mixture_is_the_weighted_sum_inside_each_part(
    make_engine: MakeEngine, references: dict[str, Reference], base: Path
) -> None:
    """W' = diag(1 + sum w g) W diag(1 + sum w c) + sum w K (x) B A, written out on the base's own weights."""
    parts = [("dora", 0.5), ("ia3-plain", 0.75), ("lora", -0.25), ("rslora", 1.0), ("lokr", 0.5)]
    model = load_reference(base)
    modules = dict(model.model.named_modules())
    weights = {name: m.weight.detach().clone() for name, m in modules.items() if isinstance(m, torch.nn.Linear)}
    shapes = {name: (w.shape[0], w.shape[1]) for name, w in weights.items()}
    lowering = Lowering(shapes, weights.__getitem__, 64, 32, 32)
    deltas = [(lowering.lower(references[name].adapter), weight) for name, weight in parts]
    for name, weight in weights.items():
        g, c, low = torch.zeros(weight.shape[0]), torch.zeros(weight.shape[1]), torch.zeros_like(weight)
        for delta, w in deltas:
            part = delta.linears.get(name)
            g += w * part.g if part and part.g is not None else 0
            c += w * part.c if part and part.c is not None else 0
            if part and part.a is not None and part.b is not None:
                low += w * torch.kron(torch.ones(1, 1) if part.k is None else part.k, part.b.t() @ part.a)
        modules[name].weight.data = (1 + g)[:, None] * weight * (1 + c) + low
    engine = make_engine()
    for ids in prompts(8):
        answer = await ask(engine, ids, [(references[name], weight) for name, weight in parts])
        assert answer.ids == greedy(model, ids, 12)


async def test_virtual_tokens_count_as_prompt(make_engine: MakeEngine, references: dict[str, Reference]) -> None:
    answer = await ask(make_engine(), [8, 9, 10], [(references["ia3"], 1.0)])
    assert answer.num_prompt_tokens == 3 + 5
