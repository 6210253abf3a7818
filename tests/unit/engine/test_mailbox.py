"""Who reads along is woken rarely and all together, at once for a first and a last event, and never forgotten."""

import asyncio

import pytest

from engine import generation
from engine.generation import Mailbox


class Readers:
    """A mailbox and some who wait on it; the test is the engine's thread."""

    def __init__(self, num: int) -> None:
        self.mailbox = Mailbox(asyncio.get_running_loop())
        self.readers = [asyncio.Event() for _ in range(num)]

    def step(self, *numbers: int, is_urgent: bool = False) -> None:
        for number in numbers:
            self.mailbox.put(self.readers[number], is_urgent)
        self.mailbox.announce()

    async def woken(self) -> list[int]:
        """Who was woken since the last look, if whoever could be at once has been."""
        for _ in range(3):
            await asyncio.sleep(0)
        found = [number for number, reader in enumerate(self.readers) if reader.is_set()]
        for number in found:
            self.readers[number].clear()
        return found


@pytest.fixture
def long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "REST_PER_READER", 0.05)
    monkeypatch.setattr(generation, "MAX_REST", 0.05)


@pytest.mark.usefixtures("long_rest")
async def test_a_step_wakes_all_and_the_next_ones_wait_for_the_rest_to_end() -> None:
    crowd = Readers(3)
    crowd.step(0, 1, 2)
    assert await crowd.woken() == [0, 1, 2]
    crowd.step(0, 1)
    crowd.step(1, 2)
    assert await crowd.woken() == []
    await asyncio.wait_for(crowd.readers[2].wait(), 5)
    assert await crowd.woken() == [0, 1, 2]


@pytest.mark.usefixtures("long_rest")
async def test_a_first_or_last_event_does_not_wait_and_wakes_nobody_else() -> None:
    crowd = Readers(2)
    crowd.step(0)
    assert await crowd.woken() == [0]
    crowd.step(0)
    crowd.step(1, is_urgent=True)
    assert await crowd.woken() == [1]
    await asyncio.wait_for(crowd.readers[0].wait(), 5)


@pytest.mark.usefixtures("long_rest")
async def test_after_a_silence_a_token_is_read_at_once() -> None:
    crowd = Readers(1)
    for _ in range(2):
        crowd.step(0)
        assert await crowd.woken() == [0]
        await asyncio.sleep(0.1)


async def test_the_rest_grows_with_those_who_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rests: list[float] = []
    crowd = Readers(100)
    monkeypatch.setattr(crowd.mailbox.loop, "call_later", lambda seconds, _: rests.append(seconds))
    for num in (1, 10, 100):
        crowd.mailbox = Mailbox(crowd.mailbox.loop)
        crowd.step(*range(num))
        assert len(await crowd.woken()) == num
    assert rests == pytest.approx([generation.REST_PER_READER, 10 * generation.REST_PER_READER, generation.MAX_REST])


async def test_a_mailbox_whose_loop_is_gone_is_harmless() -> None:
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    loop.close()
    mailbox.put(asyncio.Event(), is_urgent=True)
    mailbox.announce()
