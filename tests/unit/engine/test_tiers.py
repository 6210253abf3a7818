"""An expert's way through the tiers of a whole engine, and out of them again."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import AdapterStorage
from engine.service import Engine
from engine.tier_stats import SWAP_BUCKETS, Histogram, SwapTimes
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask
from tests.unit.engine.models import Reference, configs

PROMPT = [7, 11, 13]


def copies(reference: Reference, count: int) -> list[Reference]:
    """The same weights as so many experts of their own."""
    adapter = reference.adapter
    return [
        replace(
            reference,
            adapter=replace(
                adapter, generation=f"copy {number}", manifest=replace(adapter.manifest, name=f"copy-{number}")
            ),
        )
        for number in range(count)
    ]


async def settled(engine: Engine) -> None:
    """Until what was lowered has been written, and what was unloaded is gone."""
    await asyncio.to_thread(engine._host._lowerer.submit(lambda: None).result)
    async with asyncio.timeout(5):
        while engine._loop._inbox.qsize():
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", configs())
async def test_an_expert_from_disk_answers_as_one_that_was_just_lowered(
    make_engine: MakeEngine, references: dict[str, Reference], tmp_path: Path, name: str
) -> None:
    reference = references[name]
    first = make_engine(lowered_dir=tmp_path)
    lowered = await ask(first, PROMPT, [(reference, 1.0)])
    await settled(first)
    second = make_engine(lowered_dir=tmp_path)
    read = await ask(second, PROMPT, [(reference, 1.0)])
    assert read.ids == lowered.ids == reference.greedy(PROMPT, 12)
    stats = second.stats()
    assert (stats.tiers["disk"].hits, stats.tiers["host"].misses) == (1, 1)
    kind = reference.adapter.manifest.adapter.kind
    assert list(stats.swap_seconds) == [(kind, "disk")] and "lower" not in stats.stage_seconds
    assert set(stats.stage_seconds) == {"read", "verify", "copy"}


@pytest.mark.parametrize(
    "change", [{"max_rank": 16}, {"quantization": "bf16"}, {"max_virtual_tokens": 16}, {"adapter_storage": "int8"}]
)
async def test_other_slots_another_quantization_or_storage_lower_anew(
    make_engine: MakeEngine, references: dict[str, Reference], tmp_path: Path, change: dict[str, object]
) -> None:
    first = make_engine(lowered_dir=tmp_path)
    await ask(first, PROMPT, [(references["dora"], 1.0)])
    await settled(first)
    second = make_engine(lowered_dir=tmp_path, **change)
    await ask(second, PROMPT, [(references["dora"], 1.0)])
    assert second.stats().tiers["disk"].hits == 0 and ("dora", "package") in second.stats().swap_seconds


async def test_a_damaged_file_is_lowered_anew_and_the_answer_is_the_same(
    make_engine: MakeEngine, references: dict[str, Reference], tmp_path: Path
) -> None:
    first = make_engine(lowered_dir=tmp_path)
    expected = await ask(first, PROMPT, [(references["lora"], 1.0)])
    await settled(first)
    (path,) = tmp_path.glob("*/*")
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)
    second = make_engine(lowered_dir=tmp_path)
    assert (await ask(second, PROMPT, [(references["lora"], 1.0)])).ids == expected.ids
    await settled(second)
    assert second.stats().tiers["disk"].hits == 0 and second.stats().tiers["disk"].residents == 1


@pytest.mark.parametrize("storage", ["int8", "int4"])
async def test_packed_storage_serves_the_same_from_every_tier(
    make_engine: MakeEngine, references: dict[str, Reference], tmp_path: Path, storage: AdapterStorage
) -> None:
    settings = {"adapter_storage": storage, "lowered_dir": tmp_path, "num_slots": 1}
    first = make_engine(**settings)
    lowered = await ask(first, PROMPT, [(references["dora"], 1.0)])
    await ask(first, PROMPT, [(references["lora"], 1.0)])
    again = await ask(first, PROMPT, [(references["dora"], 1.0)])
    await settled(first)
    read = await ask(make_engine(**settings), PROMPT, [(references["dora"], 1.0)])
    assert lowered.ids == again.ids == read.ids
    assert {source for _, source in first.stats().swap_seconds} == {"package", "host"}


async def test_fifty_experts_through_three_slots_all_answer_and_nobody_is_swapped_for_ever(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine(num_slots=3, max_batch=8, max_queue=256, kv_blocks=256)
    experts = copies(references["lora"], 50)
    expected = references["lora"].greedy(PROMPT, 12)
    asks = [ask(engine, PROMPT, [(experts[(7 * number) % 50], 1.0)]) for number in range(200)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*asks)
    assert all(answer.ids == expected for answer in answers)
    stats = engine.stats()
    assert stats.preemptions == 0 and stats.swaps <= 200, "one swap a request at most"
    device = stats.tiers["device"]
    assert device.hits + device.misses == 200 and device.evictions == device.misses - 3 and device.residents == 3


async def test_a_popular_expert_does_not_keep_forty_nine_rare_ones_from_their_slots(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine(num_slots=3, max_batch=4, max_queue=512, kv_blocks=256)
    popular, *rare = copies(references["lora"], 50)
    ended: list[int] = []

    async def one(number: int, reference: Reference) -> None:
        await ask(engine, PROMPT, [(reference, 1.0)], max_tokens=4)
        ended.append(number)

    crowd = [one(-1, popular) for _ in range(300)]
    async with asyncio.timeout(60):
        await asyncio.gather(*crowd, *(one(number, reference) for number, reference in enumerate(rare)))
    last_rare = max(place for place, number in enumerate(ended) if number >= 0)
    assert last_rare < len(ended) - 50, "the crowd that came first is still being answered when the last rare one is"


async def test_unloading_frees_host_and_device_and_the_next_request_brings_it_back(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine(num_slots=2)
    expected = await ask(engine, PROMPT, [(references["dora"], 1.0)])
    await ask(engine, PROMPT, [(references["ia3"], 1.0)])
    before = engine.stats().tiers
    generation = references["dora"].adapter.generation
    assert engine.unload(generation) and not engine.unload(generation)
    await settled(engine)
    after = engine.stats().tiers
    assert after["host"].residents == after["device"].residents == 1
    assert 0 < after["host"].num_bytes < before["host"].num_bytes
    assert after["device"].num_bytes == after["host"].num_bytes
    assert engine.stats().resident == ("ia3",)
    engine.unload(references["ia3"].adapter.generation)
    await settled(engine)
    assert all(stats.num_bytes == 0 for stats in engine.stats().tiers.values())
    slots = [(linear.a, linear.b, linear.g, linear.c) for linear in engine._loop.runner.model.linears.values()]
    assert all(linear.low_rank == {} for linear in engine._loop.runner.model.linears.values()) and slots
    assert (await ask(engine, PROMPT, [(references["dora"], 1.0)])).ids == expected.ids


async def test_what_a_request_uses_is_unloaded_when_it_ends(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine()
    running = asyncio.create_task(ask(engine, PROMPT, [(references["dora"], 1.0)], max_tokens=100, ignore_eos=True))
    async with asyncio.timeout(5):
        while not engine.stats().resident:
            await asyncio.sleep(0.001)
    engine.unload(references["dora"].adapter.generation)
    answer = await running
    assert answer.ids[:12] == references["dora"].greedy(PROMPT, 12)[:12] and len(answer.ids) == 100
    await settled(engine)
    await ask(engine, PROMPT)
    assert engine.stats().resident == ()


async def test_a_wish_makes_the_next_swap_one_from_host_memory(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine = make_engine()
    engine.wish(references["lora"].adapter)
    async with asyncio.timeout(5):
        while not engine.holds(references["lora"].adapter.generation):
            await asyncio.sleep(0.005)
    assert engine.stats().swaps == 0
    await ask(engine, PROMPT, [(references["lora"], 1.0)])
    assert list(engine.stats().swap_seconds) == [("lora", "host")]


def test_a_histogram_puts_a_bound_into_its_own_bucket_and_what_is_above_all_at_the_end() -> None:
    found = Histogram().plus(0.05).plus(0.0501).plus(11.0)
    place = SWAP_BUCKETS.index(0.05)
    assert found.counts[place] == found.counts[place + 1] == found.counts[-1] == 1
    assert sum(found.counts) == 3 and found.seconds == pytest.approx(11.1001)


def test_swaps_and_stages_are_counted_apart() -> None:
    times = SwapTimes()
    times.count_swap("lora", "host", 0.001)
    times.count_swap("lora", "disk", 0.02)
    times.count_stage("copy", 0.001)
    assert set(times.swaps()) == {("lora", "host"), ("lora", "disk")} and set(times.stages()) == {"copy"}
