"""Ten experts of four kinds on one base: in one batch, and through fewer slots than there are experts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.quality import Bench, open_bench
from training.measure import unseen
from training.tasks import TASKS

ROOT = Path(__file__).resolve().parents[2]
BASE, EXPERTS = ROOT / "models" / "nano", ROOT / "adapters_store" / "experts"

Asks = list[tuple[str, str]]


@asynccontextmanager
async def opened(quantization: str, **settings: int) -> AsyncIterator[Bench]:
    bench = open_bench(BASE, EXPERTS, quantization, 64, **settings)
    try:
        yield bench
    finally:
        bench.engine.stop()


def interleaved(bench: Bench, count: int) -> Asks:
    """(expert, prompt), each expert once, `count` times over."""
    drawn = {name: unseen(bench.tokenizer.hf, TASKS[name], count, seed=31) for name in bench.experts}
    return [(name, drawn[name][turn].prompt) for turn in range(count) for name in drawn]


async def ask_together(bench: Bench, asks: Asks) -> list[str]:
    return list(await asyncio.gather(*(bench.answer(prompt, name) for name, prompt in asks)))


def test_the_embedded_experts_are_ten_of_every_kind() -> None:
    bench = open_bench(BASE, EXPERTS, "int8", 1)
    kinds = [package.manifest.kind_label for package in bench.experts.values()]
    bench.engine.stop()
    assert set(bench.experts) == set(TASKS) and len(kinds) == 10
    assert set(kinds) == {"lora", "dora", "ia3+soft_prompt", "lokr"}


@pytest.mark.parametrize("quantization", ["int8", "fp32"])
async def test_all_ten_in_one_batch_answer_as_each_alone(quantization: str) -> None:
    async with opened(quantization) as bench:
        asks = interleaved(bench, 2)
        alone = [await bench.answer(prompt, name) for name, prompt in asks]
        assert await ask_together(bench, asks) == alone


async def test_ten_experts_through_three_slots_answer_as_with_ten() -> None:
    async with opened("int8") as bench:
        asks = interleaved(bench, 3)
        expected = await ask_together(bench, asks)
        assert bench.engine.stats().swaps == 10
    async with opened("int8", num_slots=3) as bench:
        assert await ask_together(bench, asks) == expected
        assert bench.engine.stats().swaps >= 10
        assert [await bench.answer(prompt, name) for name, prompt in asks] == expected
        assert bench.engine.stats().swaps >= 10 + 20
