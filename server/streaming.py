"""From text to the wire: server-sent events, keep-alive comments, disconnects.

`exchange.py` sends with it. Whoever leaves early is noticed here, and the engine is told to stop.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

DONE = "data: [DONE]\n\n"
KEEP_ALIVE_SECONDS = 15.0
"""Of silence, after which a comment tells proxies and clients that the answer is still being made."""


def event_of(data: str, name: str | None = None) -> str:
    """One server-sent event of JSON, in which line breaks are escaped, so that one line holds it."""
    return f"data: {data}\n\n" if name is None else f"event: {name}\ndata: {data}\n\n"


class EventStream(Response):
    """Server-sent events. `on_close` is called however the response ends, also before its first event.

    What comes while a write waits for a slow client goes out together after it.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[str, None],
        on_close: Callable[[], None],
    ) -> None:
        self.status_code, self.background, self.body = 200, None, b""
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events, self._on_close, self._keep_alive_seconds = events, on_close, KEEP_ALIVE_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            self._on_close()
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)
            await self._events.aclose()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        self._last_sent = time.monotonic()
        keeping = asyncio.create_task(self._keep_alive(send))
        try:
            async for events in self._events:
                await send({"type": "http.response.body", "body": events.encode(), "more_body": True})
                self._last_sent = time.monotonic()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _keep_alive(self, send: Send) -> None:
        while True:
            silence = time.monotonic() - self._last_sent
            if silence >= self._keep_alive_seconds:
                await send({"type": "http.response.body", "body": b": keep-alive\n\n", "more_body": True})
                self._last_sent = time.monotonic()
                silence = 0.0
            await asyncio.sleep(self._keep_alive_seconds - silence)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@asynccontextmanager
async def cancelling_on_disconnect(receive: Receive, cancel: Callable[[], None]) -> AsyncIterator[None]:
    """While one body is being made, call `cancel` if the client goes away."""

    async def watch() -> None:
        await _until_gone(receive)
        cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
