"""The prefix cache through the running engine: it changes no answer, and what is found is what was computed."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask, ask_all
from tests.unit.engine.models import Reference, configs, make_reference
from tests.unit.engine.test_parity import prompts

NAMES = list(configs())
SHARED = [8 + index % 80 for index in range(40)]


@pytest.mark.parametrize("settings", [{}, {"max_step_tokens": 7, "max_batch": 3, "num_slots": 2}])
async def test_the_cache_changes_no_answer_of_any_kind(
    make_engine: MakeEngine, references: dict[str, Reference], settings: dict[str, object]
) -> None:
    cached, plain = make_engine(block_size=4, **settings), make_engine(prefix_cache=False, **settings)
    tails = prompts(3 * len(NAMES), longest=12)
    asks = [(SHARED + tail, [(references[NAMES[i % len(NAMES)]], 1.0)]) for i, tail in enumerate(tails)]
    expected = [(await ask(plain, ids, experts)).ids for ids, experts in asks]
    assert [answer.ids for answer in await ask_all(cached, asks)] == expected
    again = [await ask(cached, ids, experts) for ids, experts in asks]
    assert [answer.ids for answer in again] == expected
    assert cached.stats().prefix_hits_tokens > 0 and plain.stats().prefix_hits_tokens == 0


async def test_a_second_request_finds_all_full_blocks_but_the_last_position(make_engine: MakeEngine) -> None:
    engine = make_engine(block_size=8)
    ids = SHARED[:33]
    first, again = await ask(engine, ids), await ask(engine, ids)
    assert (first.num_cached_tokens, again.num_cached_tokens) == (0, 32)
    assert (engine.stats().prompt_tokens, engine.stats().prefix_hits_tokens) == (33 + 1, 32)
    assert (await ask(engine, ids[:32])).num_cached_tokens == 24, "a position is left to draw from"
    assert (await ask(engine, [9, *ids])).num_cached_tokens == 0


async def test_a_soft_prompt_is_found_as_a_part_of_the_prompt(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    """Five virtual tokens and three ids are two blocks of four; the last position is computed."""
    engine, expert = make_engine(block_size=4), [(references["ia3"], 1.0)]
    first, again = await ask(engine, [8, 9, 10], expert), await ask(engine, [8, 9, 10], expert)
    assert again.ids == first.ids
    assert (again.num_prompt_tokens, again.num_cached_tokens) == (8, 4)


async def test_a_prefix_is_shared_only_under_the_same_mixture(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    engine, plain = make_engine(), make_engine(prefix_cache=False)
    lora, dora = references["lora"], references["dora"]
    mixtures = [[], [(lora, 1.0)], [(lora, 0.5)], [(dora, 1.0)], [(lora, 1.0), (dora, 1.0)]]
    for mixture in mixtures:
        answer = await ask(engine, SHARED, mixture)
        assert answer.num_cached_tokens == 0
        assert answer.ids == (await ask(plain, SHARED, mixture)).ids
    for mixture in mixtures:
        assert (await ask(engine, SHARED, mixture)).num_cached_tokens == 32


async def test_other_weights_under_the_same_name_never_meet_the_old_cache(make_engine: MakeEngine, base: Path) -> None:
    """The slot is the only one, so both generations even lie at the same place."""
    engine, plain = make_engine(num_slots=1), make_engine(prefix_cache=False, num_slots=1)
    config, virtual = configs()["ia3"]
    old, new = (make_reference(base, "expert", config, virtual, seed) for seed in (1, 2))
    new = replace(new, adapter=replace(new.adapter, generation="expert@2"))
    assert old.adapter.manifest.name == new.adapter.manifest.name
    answers = []
    for reference in (old, new, old):
        answers.append(await ask(engine, SHARED, [(reference, 1.0)]))
        assert answers[-1].ids == (await ask(plain, SHARED, [(reference, 1.0)])).ids
    assert [answer.num_cached_tokens for answer in answers] == [0, 0, 32]


async def test_salts_keep_tenants_apart(make_engine: MakeEngine) -> None:
    engine = make_engine()
    found = [(await ask(engine, SHARED, salt=salt)).num_cached_tokens for salt in ("", "a", "b", "a", "")]
    assert found == [0, 0, 0, 32, 32]


async def test_an_answer_that_comes_back_as_a_prompt_is_found(make_engine: MakeEngine) -> None:
    engine = make_engine(block_size=4)
    first = await ask(engine, SHARED[:6], ignore_eos=True, max_tokens=20)
    again = await ask(engine, [*SHARED[:6], *first.ids])
    assert again.num_cached_tokens == 24, "25 of the 26 positions were computed, six blocks are full"


async def test_requests_that_arrive_together_share_what_one_has_computed(make_engine: MakeEngine) -> None:
    """The step holds one prompt; those that wait for their turn to read find it in the cache by then."""
    engine = make_engine(max_step_tokens=40, max_batch=8)
    asks = [ask(engine, [*SHARED[:36], tail]) for tail in range(10, 16)]
    answers = await asyncio.gather(*asks)
    assert max(answer.num_cached_tokens for answer in answers) == 32
    assert engine.stats().prefix_hits_tokens >= 4 * 32


async def test_a_scarce_cache_with_prefixes_preempts_and_changes_no_answer(
    make_engine: MakeEngine, references: dict[str, Reference]
) -> None:
    scarce, plain = make_engine(kv_blocks=33, block_size=4), make_engine(prefix_cache=False)
    asks = [
        (SHARED[: 10 + 5 * (i % 3)] + ids, [(references[NAMES[i % 3]], 1.0)])
        for i, ids in enumerate(prompts(12, longest=30))
    ]
    expected = [(await ask(plain, ids, experts)).ids for ids, experts in asks]
    for _ in range(2):
        assert [answer.ids for answer in await ask_all(scarce, asks)] == expected
    stats = scarce.stats()
    assert stats.preemptions > 0 and stats.prefix_hits_tokens > 0 and stats.kv_blocks_used == 0
