"""On a CUDA device: every kind in one batch, uploads on streams of their own. Run with `pytest -m gpu`."""

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
