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
    payload = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(payload), payload)
        )
        sent = time.perf_counter()
        status = int((await reader.readline()).split()[1])
        if status != 200:
            told.counts["refused as it should" if is_faulty and status in (400, 404) else f"status {status}"] += 1
            return
        told.counts[await _read(reader, told, sent, patience if is_leaving else None)] += 1
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, told: Told, sent: float, patience: int | None) -> str:
    """How the answer ended. A valid one has a reason, its usage and its mark."""
    last, num_chunks, has_reason, num_tokens = sent, 0, False, None
    async for line in reader:
        if line.startswith(b"data: [DONE]"):
            if num_tokens is None or not has_reason:
                return "incomplete"
            told.tokens.append(num_tokens)
            return "complete"
        if line.startswith(b'data: {"error"'):
            return "error in the stream"
        if not line.startswith(b"data: "):
            continue
        if b'"choices":[]' in line:
            num_tokens = json.loads(line[6:])["usage"]["completion_tokens"]
        has_reason = has_reason or b'"finish_reason":"' in line
        if b'"delta":{"content"' in line:
            now = time.perf_counter()
            (told.between if num_chunks else told.first).append(now - last)
            last, num_chunks = now, num_chunks + 1
            if patience is not None and num_chunks >= patience:
                return "left"
    return "broken off"
