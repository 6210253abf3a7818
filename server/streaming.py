"""From token events to text, and from text to the wire: stop strings, server-sent events, disconnects.

Knows tokens and text, not experts or routing. `generation.py` reads the text; `routes.py` sends it. Whoever
leaves early is noticed here, and the engine is told to stop.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from engine.errors import EngineError
from engine.request import FinishReason, TextPart, Timings
from server.services import TextDecoder, TokenStream

DONE = "data: [DONE]\n\n"


class StopStrings:
    """Cuts a text at the first stop string to be completed, however the text is split into pieces.

    Holds back what may yet become a stop string, and nothing more. Of several that end at the same place the
    longest counts, so the cut never depends on where one token ends and the next begins.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.is_hit = False

    def push(self, piece: str) -> str:
        """Take the next piece, give what is safe to send."""
        if self.is_hit:
            return ""
        text = self._held + piece
        ends = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if ends:
            self.is_hit = True
            self._held = ""
            return text[: min(ends)[1]]
        keep = self._num_held(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The text has ended: give what was held back."""
        held, self._held = self._held, ""
        return held

    def _num_held(self, text: str) -> int:
        """The longest end of the text that begins a stop string."""
        lengths = (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)


class Trimmed:
    """A text without the line feeds around it, however it is split into pieces."""

    def __init__(self) -> None:
        self._held = ""
        self._has_begun = False

    def push(self, piece: str) -> str:
        """Take the next piece, give what is certain."""
        text = self._held + piece if self._has_begun else piece.lstrip("\n")
        self._has_begun = self._has_begun or bool(text)
        certain = text.rstrip("\n")
        self._held = text[len(certain) :]
        return certain


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """How a text ended. `num_tokens` counts to the token that completed a stop string, where one did."""

    reason: FinishReason
    num_tokens: int
    timings: Timings
    num_thinking: int = 0
    """Of the tokens, those before the answer."""


async def read_text(
    tokens: TokenStream, decoder: TextDecoder, stops: StopStrings
) -> AsyncIterator[str | Thought | Finish]:
    """Give the pieces of the texts as they become certain, then their end. Stop strings are the answer's alone.

    What the engine raises once a stop string is complete changes nothing: the answer was whole.
    """
    num_tokens = num_thinking = 0
    thoughts = Trimmed()
    is_reading = True
    try:
        async for event in tokens:
            if event.token_id is not None and is_reading:
                num_tokens += 1
                is_thought = event.part is TextPart.THINKING
                if event.part is not TextPart.ANSWER:
                    num_thinking += 1
                    if thought := thoughts.push(decoder.push(event.token_id) if is_thought else decoder.flush()):
                        yield Thought(thought)
                elif piece := stops.push(decoder.push(event.token_id)):
                    yield piece
                if stops.is_hit:
                    is_reading = False
                    tokens.cancel()
            if event.finish is not None:
                assert event.timings is not None, "the engine's last event carries timings"
                if num_thinking == num_tokens and (thought := thoughts.push(decoder.flush())):
                    yield Thought(thought)
                if tail := stops.push(decoder.flush()) + stops.flush():
                    yield tail
                reason = FinishReason.STOP if stops.is_hit else event.finish
                yield Finish(reason, num_tokens, event.timings, num_thinking)
    except EngineError:
        if is_reading:
            raise
        yield Finish(FinishReason.STOP, num_tokens, tokens.timings(), num_thinking)


def event_of(data: BaseModel, exclude: set[str] | None = None) -> str:
    """One server-sent event. JSON escapes line breaks, so one line holds it."""
    return f"data: {data.model_dump_json(exclude=exclude)}\n\n"


class EventStream(StreamingResponse):
    """Server-sent events. `on_close` is called however the response ends, also before its first event."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[str, None], on_close: Callable[[], None]) -> None:
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self._events = events
        self._on_close = on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_close()
            await self._events.aclose()


@asynccontextmanager
async def cancelling_on_disconnect(receive: Receive, cancel: Callable[[], None]) -> AsyncIterator[None]:
    """While one body is being made, call `cancel` if the client goes away."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
