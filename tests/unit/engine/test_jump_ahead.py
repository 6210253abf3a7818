"""Tokens that a grammar forces cost no forward pass each, and change nothing else."""

import asyncio
from collections.abc import Sequence as Ordered

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.request import FinishReason, GenerationRequest, SamplingParams
from engine.stats import EngineStats
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import Answer, answer_to, ask
from tests.unit.engine.test_scheduling import EOS
from tests.unit.engine.test_thinking import OPENED, Spelled, draw, started, texts

Places = tuple[tuple[int, ...], ...]
RECORD: Places = (
    (20,), (21,), tuple(range(30, 60)), (22,), (23,), (24,), (60, 61), (62, 63, 64), (25,), (26,), (27,), (28,),
    tuple(range(30, 60)), (29,),
)  # fmt: skip
"""What may stand at each place of a sentence of some grammar."""


class Placed(Spelled):
    """A grammar that lists what may stand at each place."""

    def __init__(self, places: Places, jumps: bool = True) -> None:
        super().__init__(tuple(ids[0] for ids in places))
        self.places, self.jumps = places, jumps

    def allows(self, token_id: int) -> bool:
        return self.place < len(self.places) and token_id in self.places[self.place]

    def forced_tokens(self) -> tuple[int, ...]:
        found: list[int] = []
        for ids in self.places[self.place :] if self.jumps else ():
            if len(ids) > 1:
                break
            found += ids
        return tuple(found)


def test_forced_tokens_are_read_in_one_step() -> None:
    machine, sequence = started(None, Placed(RECORD))
    events = draw(machine, 20)
    assert sequence.output_ids == [20, 21] and texts(events) == [(20, "answer"), (21, "answer")]
    events += draw(machine, 30)
    (row,) = machine.plan().rows
    assert row.token_ids == (30, 22, 23, 24) and row.start == 5 and row.samples
    events += draw(machine, 61, 62, 40)
    assert [token for token, _ in texts(events)] == [20, 21, 30, 22, 23, 24, 61, 62, 25, 26, 27, 28, 40, 29]
    assert events[-1].finish is FinishReason.STOP
    assert machine.num_forced_tokens == 9


@pytest.mark.parametrize("max_tokens", range(1, 14))
def test_max_tokens_may_fall_into_a_jump(max_tokens: int) -> None:
    matcher = Placed(RECORD)
    machine, sequence = started(None, matcher, max_tokens=max_tokens)
    events = []
    while machine.has_work:
        events += draw(machine, matcher.places[matcher.place][0])
    assert events[-1].finish is FinishReason.LENGTH and len(sequence.output_ids) == max_tokens
    assert sequence.output_ids == [ids[0] for ids in RECORD[:max_tokens]]


def test_a_stop_id_is_never_forced() -> None:
    machine, sequence = started(None, Placed(RECORD), stop_ids=(23,))
    draw(machine, 20, 30)
    assert sequence.output_ids[-1] == 22
    assert draw(machine, 23)[-1].finish is FinishReason.STOP


def test_a_token_with_a_bias_is_never_forced() -> None:
    machine, sequence = started(None, Placed(RECORD), logit_bias=((23, -100.0),))
    draw(machine, 20, 30)
    assert sequence.output_ids[-1] == 22


def test_a_row_with_log_probabilities_draws_every_token() -> None:
    machine, sequence = started(None, Placed(RECORD), logprobs=0)
    draw(machine, 20)
    assert sequence.output_ids == [20]


def test_nothing_is_forced_while_the_model_thinks() -> None:
    machine, sequence = started(OPENED, Placed(RECORD))
    draw(machine, 9)
    assert sequence.output_ids == [9]
    draw(machine, OPENED.close_id)
    assert sequence.output_ids == [9, OPENED.close_id, *OPENED.after_close, 20, 21]


def test_what_a_grammar_forces_and_does_not_allow_is_left() -> None:
    class Confused(Placed):
        def forced_tokens(self) -> tuple[int, ...]:
            return (22, 90, 24)

    machine, sequence = started(None, Confused(RECORD))
    draw(machine, 20, 21, 30)
    assert sequence.output_ids == [20, 21, 30, 22]


def test_cancelling_in_the_middle_frees_everything() -> None:
    matcher = Placed(RECORD)
    machine, _ = started(None, matcher)
    draw(machine, 20, 30)
    machine.plan()
    assert machine.cancel(1)[-1].finish is FinishReason.CANCELLED
    machine.check_integrity()
    assert not machine.has_work and matcher.is_closed
    assert machine.blocks.num_free == machine.blocks.num_blocks


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 25), st.integers(0, 30))
def test_a_jump_gives_what_single_steps_give(shape: list[int], max_tokens: int, seed: int) -> None:
    """Whatever a grammar forces between its choices: the same tokens and the same end, in no more steps."""
    places = tuple((10 + i,) if width else (40, 41, 42) for i, width in enumerate(shape)) or ((7,),)

    def run(jumps: bool) -> tuple[list[int], FinishReason | None, int]:
        matcher = Placed(places, jumps)
        machine, sequence = started(None, matcher, max_tokens=max_tokens)
        steps = 0
        while machine.has_work:
            ids = matcher.places[matcher.place]
            draw(machine, ids[(seed + len(sequence.output_ids)) % len(ids)])
            steps += 1
        return sequence.output_ids, sequence.finish, steps

    (*jumped, few), (*single, many) = run(True), run(False)
    assert jumped == single and few <= many


async def answers(
    make_engine: MakeEngine,
    jump: bool | None,
    prompts: Ordered[Ordered[int]],
    sampling: dict[str, float] | None = None,
    **settings: int,
) -> tuple[list[Answer], EngineStats]:
    """Each prompt under the same grammar, all at once; and what the engine counted."""
    engine = make_engine(jump_ahead=jump, block_size=4, **settings)
    asks = [
        GenerationRequest(
            "test",
            tuple(prompt),
            sampling=SamplingParams(max_tokens=40, **(sampling or {})),  # type: ignore[arg-type]
            matcher=Placed(RECORD),
        )
        for prompt in prompts
    ]
    found = await asyncio.gather(*(answer_to(engine, request) for request in asks))
    stats = engine.stats()
    assert stats.generated_tokens == sum(len(answer.ids) for answer in found)
    assert bool(stats.forced_tokens) == (jump is not False)
    return list(found), stats


PROMPTS = [(11, 12, 13), (14, 15), tuple(range(2, 40)), (11, 12, 13)]


@pytest.mark.parametrize(
    "sampling", [{}, {"temperature": 1.0, "seed": 5}, {"temperature": 0.7, "top_p": 0.8, "seed": 1}]
)
async def test_the_answers_are_the_same_in_fewer_steps(make_engine: MakeEngine, sampling: dict[str, float]) -> None:
    for prompts in (PROMPTS[:1], PROMPTS):
        jumped, few = await answers(make_engine, True, prompts, sampling)
        single, many = await answers(make_engine, False, prompts, sampling)
        assert [answer.ids for answer in jumped] == [answer.ids for answer in single]
        assert all(answer.finish is FinishReason.STOP for answer in jumped)
        assert few.steps <= 0.6 * many.steps


async def test_a_cpu_jumps_unless_told_otherwise(make_engine: MakeEngine) -> None:
    _, by_default = await answers(make_engine, None, PROMPTS[:1])
    _, jumping = await answers(make_engine, True, PROMPTS[:1])
    assert by_default.steps == jumping.steps


async def test_preempted_rows_lose_nothing_of_a_jump(make_engine: MakeEngine) -> None:
    prompts = [tuple(range(2 + i, 34 + i)) for i in range(8)]
    jumped, stats = await answers(make_engine, True, prompts, kv_blocks=32, max_step_tokens=8, max_batch=8)
    assert stats.preemptions > 0
    single, _ = await answers(make_engine, False, prompts, kv_blocks=256)
    assert [answer.ids for answer in jumped] == [answer.ids for answer in single]
    assert all(answer.num_cached_tokens <= answer.num_prompt_tokens for answer in jumped)


async def test_what_a_jump_leaves_in_the_prefix_cache_is_right(make_engine: MakeEngine) -> None:
    """Another prompt that holds the forced tokens finds their blocks, and goes on as without them."""
    engine = make_engine(jump_ahead=True, block_size=4)
    first = await ask(engine, PROMPTS[0], matcher=Placed(RECORD), max_tokens=40)
    longer = (*PROMPTS[0], *first.ids, 11)
    found = await ask(engine, longer)
    assert found.num_cached_tokens >= 12
    assert found.ids == (await ask(make_engine(prefix_cache=False), longer)).ids


async def test_batch_mates_that_do_not_jump_are_not_touched(make_engine: MakeEngine) -> None:
    engine = make_engine(jump_ahead=True)
    alone = await ask(engine, (8, 9), max_tokens=30, ignore_eos=True)
    _, beside = await asyncio.gather(
        ask(engine, PROMPTS[0], matcher=Placed(RECORD), max_tokens=40),
        ask(engine, (8, 9), max_tokens=30, ignore_eos=True),
    )
    assert beside.ids == alone.ids


async def test_every_forced_token_is_an_event_of_its_own(make_engine: MakeEngine) -> None:
    engine = make_engine(jump_ahead=True)
    request = GenerationRequest("t", (11, 12), sampling=SamplingParams(max_tokens=40), matcher=Placed(RECORD))
    generation = await engine.submit(request)
    events = [event async for event in generation]
    assert len(events) == len(RECORD) + 1 and events[-1].finish is FinishReason.STOP
    assert all(event.token_id not in (None, EOS) for event in events[:-1])
