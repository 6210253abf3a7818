"""One request's way back: from the engine thread, which publishes events, to the event loop, which reads them.

Owns who is woken when: a wake-up of the loop costs as much as a token, so those who read together are woken together.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from engine.request import Timings, TokenEvent
from engine.sequence import Sequence

REST_PER_READER = 0.0006
"""Seconds. Waking one and what it does then costs some 60 µs (decode, write JSON, send), so that all of them together
take a tenth of one core's time at most."""
MAX_REST = 0.02
"""Seconds between two wake-ups, however many read along: fifty times a second still looks like writing."""


class Mailbox:
    """Wakes those who read answers on one event loop: all of them together, and a first or a last event at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: deque[asyncio.Event] = deque()
        self._urgent: deque[asyncio.Event] = deque()
        self._is_resting = False

    def put(self, arrived: asyncio.Event, is_urgent: bool) -> None:
        """Called from the engine thread."""
        (self._urgent if is_urgent else self._waiting).append(arrived)

    def announce(self) -> None:
        """Called from the engine thread, after a step. A caller whose event loop is gone no longer listens."""
        if self._urgent or not self._is_resting:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        _wake(self._urgent)
        if not self._is_resting and (num_woken := _wake(self._waiting)):
            self._is_resting = True
            self.loop.call_later(min(MAX_REST, num_woken * REST_PER_READER), self._end_rest)

    def _end_rest(self) -> None:
        self._is_resting = False  # before the look at who waits: whoever comes after it announces
        self._deliver()


def _wake(readers: deque[asyncio.Event]) -> int:
    """How many were asleep."""
    num_asleep = 0
    while readers:
        reader = readers.popleft()
        num_asleep += not reader.is_set()
        reader.set()
    return num_asleep


class Generation:
    """The events of one request, in order, up to the one with a finish reason; raises what ended it otherwise."""

    def __init__(self, sequence: Sequence, cancel: Callable[[], None], mailbox: Mailbox) -> None:
        self._sequence, self._cancel, self._mailbox = sequence, cancel, mailbox
        self._news: deque[list[TokenEvent] | Exception] = deque()
        self._arrived = asyncio.Event()
        self._has_begun = self._ended = False

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt ids and virtual tokens."""
        return self._sequence.num_prompt

    @property
    def num_cached_tokens(self) -> int:
        """Prompt tokens, virtual ones too, that were found in the prefix cache; final from the first event on."""
        return self._sequence.num_cached

    def timings(self) -> Timings:
        """So far."""
        return self._sequence.timings(time.monotonic())

    def cancel(self) -> None:
        """Stop within one step; harmless when it has already ended."""
        if not self._ended:
            self._cancel()

    def publish(self, news: list[TokenEvent] | Exception) -> None:
        """Called from the engine thread."""
        is_end = isinstance(news, Exception) or news[-1].finish is not None
        self._news.append(news)
        self._mailbox.put(self._arrived, is_end or not self._has_begun)
        self._has_begun = True

    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        """All that has come since the last look, together."""
        while not self._ended:
            await self._arrived.wait()
            self._arrived.clear()
            events: list[TokenEvent] = []
            while self._news:
                news = self._news.popleft()
                if isinstance(news, Exception):
                    self._ended = True
                    if events:
                        yield events
                    raise news
                events += news
            if events:
                self._ended = events[-1].finish is not None
                yield events

    async def __aiter__(self) -> AsyncIterator[TokenEvent]:
        async for events in self.batches():
            for event in events:
                yield event
