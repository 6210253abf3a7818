"""Deadlines: who is late ends within a step, queued or running, and says how far it came."""

from dataclasses import replace

import pytest

from engine.errors import DeadlineExceeded
from engine.sequence import Sequence
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask
from tests.unit.engine.test_scheduling import CONFIG, scheduler, sequence
from tests.unit.engine.test_service import EverythingBut, endless


def late(number: int, deadline_s: float) -> Sequence:
    found = sequence(number, experts=("a",))
    found.submitted, found.deadline_s = 100.0, deadline_s
    return found


def test_who_is_late_ends_queued_or_running_and_says_how_far_it_came() -> None:
    machine = scheduler()
    for number in range(CONFIG.max_batch):
        machine.add(late(number, 2.0 + number))
    machine.commit(machine.plan(), dict.fromkeys(range(CONFIG.max_batch), 7))
    machine.add(late(8, 2.5))
    machine.plan()
    assert machine.expire(101.9) == {}
    faults = machine.expire(102.5)
    assert {number: fault.num_tokens for number, fault in faults.items()} == {8: None, 0: 1}
    assert str(faults[0]) == "the request was given 2 seconds, and then its answer was at token 1"
    assert str(faults[8]) == "the request was given 2.5 seconds, and then it was still queued"
    machine.check_integrity()
    assert [found.id for found in machine.running] == [1, 2, 3] and len(machine.waiting) == 0


async def test_a_running_request_ends_at_its_deadline_and_frees_the_cache(make_engine: MakeEngine) -> None:
    """The time is over before the engine's thread looks for the first time, or while it generates."""
    engine, request = make_engine(), replace(endless(), deadline_s=0.02)
    generation = await engine.submit(request)
    with pytest.raises(DeadlineExceeded, match=r"given 0\.02 seconds"):
        async for _ in generation:
            pass
    assert engine.stats().kv_blocks_used == 0 and engine.stats().running == 0
    assert isinstance(request.matcher, EverythingBut) and request.matcher.closed == 1
    assert (await ask(engine, [8, 9])).finish


async def test_a_queued_request_ends_at_its_deadline(make_engine: MakeEngine) -> None:
    engine = make_engine(max_batch=1, deadline_s=60.0)
    running = await engine.submit(endless())
    queued = await engine.submit(replace(endless(), deadline_s=0.0))
    with pytest.raises(DeadlineExceeded, match="still queued"):
        async for _ in queued:
            pass
    running.cancel()


async def test_the_deadline_of_the_server_is_the_longest_there_is(make_engine: MakeEngine) -> None:
    engine = make_engine(deadline_s=0.0)
    for deadline_s in (None, 5.0):
        generation = await engine.submit(replace(endless(), deadline_s=deadline_s))
        with pytest.raises(DeadlineExceeded, match="given 0 seconds"):
            async for _ in generation:
                pass
