"""uvicorn, made to stand its ground: slow clients are let go, heads are bounded, and the end is orderly.

Knows bytes and connections, no routes. `__main__.py` serves with it.
"""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.settings import Settings

_ABORT_SECONDS = 5
"""For the last bytes to clients whose requests have been ended."""

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter from the engine's, which asks for it after every kernel."""


class PatientProtocol(H11Protocol):
    """uvicorn's own, with a bound on two things that it would wait for without end.

    A head has to come whole within `seconds` of its first byte, or of the connection (a body has the same time, in
    `middleware.py`); and of what is sent, something has to be taken within `seconds` once the buffers are full.
    """

    seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()

    def _watch_head(self) -> None:
        """The timer runs exactly while a head is awaited or has come in part."""
        is_awaited = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if is_awaited and self._head_timer is None:
            self._head_timer = self.loop.call_later(self.seconds, self.transport.abort)
        elif not is_awaited and self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class DrainingServer(uvicorn.Server):
    """Ends in order: at the first SIGTERM or SIGINT it drains while it still answers, then it exits with status 0.

    uvicorn alone would stop listening at once, so that probes and clients find nobody who tells them why, and would die
    of the signal in the end. A second signal ends the wait.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.begin_exit)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def begin_exit(self) -> None:
        """Drain, then exit; at once where it drains already."""
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain_and_exit())
        else:
            self.should_exit = True

    async def _drain_and_exit(self) -> None:
        try:
            await self._drain()
        finally:
            self.should_exit = True


def server_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application. h11, because its bounds on a head hold and it reads the body of a request
    that offers HTTP/2; the faster parser does neither."""
    protocol = type("Protocol", (PatientProtocol,), {"seconds": settings.client_seconds})
    return uvicorn.Config(
        app,
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=_ABORT_SECONDS,  # what may take longer has been drained before
    )


def settle() -> None:
    """Called once the rooms run, in a process that serves until it ends.

    What loading left stays for good; looking through it for garbage held up every answer for 0.4 s at a time.
    """
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
