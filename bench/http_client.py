"""The clients of `bench.http`: raw sockets and as little work for each event as can be, in a process of their own."""

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Load:
    port: int
    streams: int
    """At one time."""
    requests: int
    max_tokens: int
    leaving: float
    """The share of clients that leave after some tokens."""
    faulty: float
    """The share of bodies that are refused."""
    models: tuple[str, ...]
    ignore_eos: bool = False
    seed: int = 0


@dataclass
class Told:
    """What the clients saw; times in seconds."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """That the clients took themselves."""
    counts: "Counter[str]" = field(default_factory=Counter)
    tokens: list[int] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)

    def add(self, other: "Told") -> None:
        self.seconds += other.seconds
        self.cpu_seconds += other.cpu_seconds
        self.counts += other.counts
        self.tokens += other.tokens
        self.first += other.first
        self.between += other.between


def run_load(load: Load) -> Told:
    before = time.process_time()
    told = asyncio.run(_run(load))
    told.cpu_seconds = time.process_time() - before
    return told


async def _run(load: Load) -> Told:
    told, dice = Told(), random.Random(load.seed)
    numbers = iter(range(load.requests))
    plans = [(dice.random(), dice.choice(load.models), dice.randrange(1, 12)) for _ in range(load.requests)]
    started = time.perf_counter()

    async def worker() -> None:
        for number in numbers:
            await _one(load, told, number, *plans[number])

    await asyncio.gather(*[worker() for _ in range(load.streams)])
    told.seconds = time.perf_counter() - started
    return told


async def _one(load: Load, told: Told, number: int, lot: float, model: str, patience: int) -> None:
    is_faulty, is_leaving = lot < load.faulty, load.faulty <= lot < load.faulty + load.leaving
    body = {
        "model": "nobody" if is_faulty and number % 2 else model,
        "messages": [{"role": "user", "content": f"Tell me about {number}."}],
        "max_tokens": -1 if is_faulty and not number % 2 else load.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": load.ignore_eos,
    }
    loop, payload = asyncio.get_running_loop(), json.dumps(body).encode()
    answer = _Answer(told, payload, patience if is_leaving else None, loop.create_future())
    transport, _ = await loop.create_connection(lambda: answer, "127.0.0.1", load.port)
    try:
        end = await answer.ended
    finally:
        transport.close()
    told.counts["refused as it should" if is_faulty and end in ("status 400", "status 404") else end] += 1


class _Answer(asyncio.Protocol):
    """Reads one answer; `ended` says how it did. A valid one has a reason, its usage and its mark."""

    def __init__(self, told: Told, payload: bytes, patience: int | None, ended: "asyncio.Future[str]") -> None:
        self.ended = ended
        self._told, self._payload, self._patience = told, payload, patience
        self._held = b""
        self._last, self._num_chunks = 0.0, 0
        self._is_begun = self._has_reason = False
        self._num_tokens: int | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(self._payload), self._payload)
        )
        self._last = time.perf_counter()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._end("broken off")

    def data_received(self, data: bytes) -> None:
        *events, self._held = (self._held + data).split(b"\n\n")
        if not self._is_begun:
            line, mark, _ = (events[0] if events else self._held).partition(b"\r\n")
            self._is_begun = bool(mark)
            if mark and line.split()[1] != b"200":
                self._end(f"status {int(line.split()[1])}")
        for event in events:
            self._read(event)

    def _read(self, event: bytes) -> None:
        self._has_reason = self._has_reason or b'"finish_reason":"' in event
        if b'"delta":{"content"' in event:
            now = time.perf_counter()
            (self._told.between if self._num_chunks else self._told.first).append(now - self._last)
            self._last, self._num_chunks = now, self._num_chunks + 1
            if self._num_chunks == self._patience:
                self._end("left")
        elif b'"choices":[]' in event:
            told = json.loads(event[event.index(b"data: ") + 6 :])
            self._num_tokens = told["usage"]["completion_tokens"]
        elif event.endswith(b"data: [DONE]"):
            self._end("complete" if self._has_reason and self._num_tokens is not None else "incomplete")
        elif b'data: {"error"' in event:
            self._end("error in the stream")

    def _end(self, how: str) -> None:
        if not self.ended.done():
            self.ended.set_result(how)
            if how == "complete" and self._num_tokens is not None:
                self._told.tokens.append(self._num_tokens)
