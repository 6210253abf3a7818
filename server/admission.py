"""How many requests are being worked on, in all and for each key: who is one too many hears so before any work.

The engine bounds its own queue; this also counts what is on its way there (routing, tokenizing, compiling) and what is
still being sent. The event loop's thread owns it.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from server.keys import Caller
from server.settings import ServerError


class ServerFull(ServerError):
    """As many requests as the server takes are being worked on."""

    def __init__(self, running: int, limit: int) -> None:
        super().__init__(f"the server is full: {running} requests are being worked on, the limit is {limit}")
        self.running, self.limit = running, limit


class KeyBusy(ServerError):
    """As many requests of this key as it may have at one time."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"this key has {limit} requests running already, which is its limit")
        self.limit = limit


class Admission:
    """A place for each request from its first check to its last byte."""

    def __init__(self, limit: int, limit_per_key: int | None = None) -> None:
        self._limit, self._limit_per_key = limit, limit_per_key
        self._per_key: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()
        self.num_running = 0

    @contextmanager
    def place(self, caller: Caller) -> Iterator[None]:
        """Held while the request runs. Raises ServerFull or KeyBusy."""
        if self.num_running >= self._limit:
            raise ServerFull(self.num_running, self._limit)
        limit = caller.max_concurrent or (self._limit_per_key if caller.id else None)
        if limit is not None and self._per_key[caller.id] >= limit:
            raise KeyBusy(limit)
        self._per_key[caller.id] += 1
        self.num_running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._per_key[caller.id] -= 1
            self._per_key += Counter()  # forgets keys at zero
            self.num_running -= 1
            if not self.num_running:
                self._idle.set()

    async def wait_until_idle(self) -> None:
        """Until nothing is being worked on."""
        await self._idle.wait()
