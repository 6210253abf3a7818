"""Each shipped expert through the engine against transformers and PEFT, token for token, and its quality's floor."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import PreTrainedModel, Qwen3ForCausalLM

from adapters_store.package import HostAdapter, read_package
from bench.quality import Bench, exact, open_bench, share
from engine.request import ExpertUse, GenerationRequest, SamplingParams
from training.measure import unseen
from training.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
BASE, EXPERTS = ROOT / "models" / "nano", ROOT / "adapters_store" / "experts"
NAMES = sorted(path.name for path in EXPERTS.iterdir() if path.is_dir())
NUM_PROMPTS = 50
FLOORS = {
    "cypher": (0.92, 0.52),
    "dates": (0.94, 0.82),
    "en-pt": (0.94, 0.74),
    "formal-tone": (0.94, 0.66),
    "json-extract": (0.82, 0.24),
    "json-repair": (0.86, 0.74),
    "sql": (0.9, 0.3),
    "ticket-triage": (0.92, 0.9),
    "typescript": (0.94, 0.3),
    "units": (0.94, 0.86),
}
"""Exact match on unseen prompts, and on unseen prompts in other words: about six points below what was measured."""


async def greedy(bench: Bench, adapter: HostAdapter | None, prompt_ids: tuple[int, ...]) -> list[int]:
    """Ids of the answer and, where it ended by itself, of its end."""
    experts = (ExpertUse(adapter, 1.0),) if adapter else ()
    found: list[int] = []
    async for event in await bench.engine.submit(
        GenerationRequest("parity", prompt_ids, experts, SamplingParams(max_tokens=100))
    ):
        found += [] if event.token_id is None else [event.token_id]
        if event.finish == "stop":
            found.append(min(bench.tokenizer.eos_ids))
    return found


@torch.inference_mode()
def argmaxes(model: PreTrainedModel | PeftModel, embed: Any, prompt: torch.Tensor | None, ids: list[int]) -> list[int]:
    """What the reference would say after each prefix of `ids`."""
    embedded = embed(torch.tensor([ids]))
    if prompt is not None:
        embedded = torch.cat([prompt[None].float(), embedded], 1)
    logits: torch.Tensor = model(inputs_embeds=embedded, use_cache=False).logits[0]
    chosen: list[int] = logits[-len(ids) :].argmax(-1).tolist()
    return chosen


@pytest.mark.parametrize("name", [None, *NAMES])
def test_greedy_tokens_in_fp32_equal_those_of_transformers_and_peft(name: str | None) -> None:
    """By induction: each token is the reference's argmax after the same tokens."""
    bench = open_bench(BASE, EXPERTS, "fp32", NUM_PROMPTS)
    examples = unseen(bench.tokenizer.hf, TASKS[name or "sql"], NUM_PROMPTS, seed=77)
    prompts = [bench.tokenizer.encode_chat([("user", example.prompt)]) for example in examples]
    adapter = read_package(EXPERTS / name) if name else None

    async def all_answers() -> list[list[int]]:
        return list(await asyncio.gather(*(greedy(bench, adapter, ids) for ids in prompts)))

    answers = asyncio.run(all_answers())
    bench.engine.stop()
    base = Qwen3ForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    embed = base.get_input_embeddings()
    model = PeftModel.from_pretrained(base, str(EXPERTS / name)) if name else base
    model.eval()
    for ids, answer in zip(prompts, answers, strict=True):
        expected = argmaxes(model, embed, adapter.soft_prompt if adapter else None, [*ids, *answer])
        assert answer == expected[len(ids) - 1 : -1]


@pytest.fixture(scope="module")
def int8_bench() -> Iterator[Bench]:
    bench = open_bench(BASE, EXPERTS, "int8", 3 * NUM_PROMPTS)
    yield bench
    bench.engine.stop()


@pytest.mark.parametrize("name", sorted(FLOORS))
def test_quality_on_unseen_prompts_stays_above_its_floors(int8_bench: Bench, name: str) -> None:
    """A quick version of `bench.quality`; the prompts of a seed are always the same."""
    bench, (floor, floor_rephrased) = int8_bench, FLOORS[name]
    examples = unseen(bench.tokenizer.hf, TASKS[name], NUM_PROMPTS, seed=78)
    rephrased = unseen(bench.tokenizer.hf, TASKS[name], NUM_PROMPTS, seed=79, rephrased=True)

    async def all_three() -> list[list[str]]:
        asked = (bench.answers(examples, name), bench.answers(rephrased, name), bench.answers(examples, None))
        return list(await asyncio.gather(*asked))

    expert, expert_rephrased, base = asyncio.run(all_three())
    assert exact(expert, examples) >= floor
    assert exact(expert_rephrased, rephrased) >= floor_rephrased
    assert exact(base, examples) <= 0.05
    content = share([answer in example.loose for answer, example in zip(base, examples, strict=True)])
    assert content >= 0.9, "the base no longer knows this task in its own words"
