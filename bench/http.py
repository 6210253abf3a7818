"""The HTTP edge under load, and what it costs: `python -m bench.http`.

First the cost: 32 streams over loopback and the same requests to the bare engine, in turns, in one process; short
answers show what a request costs, long ones what a token does. Then a load of many requests with mixed experts, of
which some clients leave in the middle and some bodies are faulty. The clients run in a process of their own, on the
same cores, and tell how much of those they took.
"""

import asyncio
import mmap
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bench.http_client import Load, Told, run_load
from engine.request import GenerationRequest, SamplingParams
from server.services import Services, build_services
from server.settings import Settings
from server.transport import settle
from tests.live import live_server

STREAMS = 32
LENGTHS = (64, 256)
"""Of the answers, in tokens."""
PARTS = 4
"""Of the load, to see whether memory grows."""


@dataclass
class Rates:
    """Tokens per second, a figure for each turn."""

    num_tokens: int
    bare: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)
    clients: list[float] = field(default_factory=list)
    """Seconds of the processor that a token took in the clients' process."""


async def bare_rate(services: Services, num_tokens: int) -> float:
    """The engine alone, its events read as they come."""

    async def one(number: int) -> int:
        ids = tuple(services.tokenizer.encode_chat([("user", f"Tell me about {number}.")]))
        sampling = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
        stream = await services.engine.submit(GenerationRequest(str(number), ids, (), sampling))
        return sum([event.token_id is not None async for events in stream.batches() for event in events])

    started = time.perf_counter()
    counts = await asyncio.gather(*[one(number) for number in range(STREAMS)])
    return sum(counts) / (time.perf_counter() - started)


def in_process(target: Callable[..., Told], *arguments: object) -> Told:
    """The clients' interpreter is not the server's."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        told: Told = pool.apply(target, arguments)
    return told


def percentiles(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100)
    return " / ".join(f"{cuts[place - 1] * 1e3:.1f}" for place in (50, 95, 99))


def cost(port: int, services: Services, num_tokens: int, turns: int) -> Rates:
    rates = Rates(num_tokens)
    load = Load(port, STREAMS, STREAMS, num_tokens, 0.0, 0.0, ("nano",), ignore_eos=True)
    asyncio.run(bare_rate(services, num_tokens))
    in_process(run_load, load)
    for _ in range(turns):
        rates.bare.append(asyncio.run(bare_rate(services, num_tokens)))
        told = in_process(run_load, load)
        rates.http.append(sum(told.tokens) / told.seconds)
        rates.clients.append(told.cpu_seconds / sum(told.tokens))
    return rates


def main(
    requests: Annotated[int, typer.Option(help="Of the load.")] = 2_000,
    streams: Annotated[int, typer.Option(help="At one time.")] = 64,
    turns: Annotated[int, typer.Option(help="Of the two ways, for the cost.")] = 3,
) -> None:
    with TemporaryDirectory() as cache:
        settings = Settings(cache_dir=Path(cache), max_queue=streams * 2)
        services = build_services(settings)
        with live_server(services) as port:
            settle()
            for num_tokens in LENGTHS:
                show_cost(cost(port, services, num_tokens, turns))
            names = ("auto", "nano", *(manifest.name for manifest in services.store.list()))
            in_process(run_load, Load(port, streams, 200, 24, 0.10, 0.05, names))
            memory, told = [resident_mib()], Told()
            for seed in range(PARTS):
                part = Load(port, streams, requests // PARTS, 24, 0.10, 0.05, names, seed=seed)
                told.add(in_process(run_load, part))
                memory.append(resident_mib())
            print(f"{requests:,} requests, {streams} at a time, in {told.seconds:.1f} s: {dict(told.counts)}")
            print(f"first token p50 / p95 / p99, ms: {percentiles(told.first)}")
            print(f"between tokens, ms: {percentiles(told.between)}")
            print(f"resident memory before and after each quarter, MiB: {memory}")


def show_cost(rates: Rates) -> None:
    bare, http = statistics.median(rates.bare), statistics.median(rates.http)
    less = f"{1 - http / bare:.1%} less"
    print(f"{STREAMS} streams of {rates.num_tokens} tokens, tokens/s: bare {bare:,.0f}, HTTP {http:,.0f} ({less})")
    print(f"  turns: bare {[round(rate) for rate in rates.bare]}, HTTP {[round(rate) for rate in rates.http]}")
    longer, clients = 1 / http - 1 / bare, statistics.median(rates.clients)
    print(f"  a token takes {longer * 1e6:.1f} µs longer; the clients' processor time for it is {clients * 1e6:.1f} µs")


def resident_mib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE >> 20


if __name__ == "__main__":
    typer.run(main)
