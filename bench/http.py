"""The HTTP edge under load, and what it costs: `python -m bench.http`.

First the cost: 32 streams over loopback and the same requests to the bare engine, in turns, in one process; then a
load of many requests with mixed experts, of which some clients leave in the middle and some bodies are faulty. The
clients run in a process of their own, on the same cores.
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
from tests.live import live_server

STREAMS = 32
TOKENS = 64
PARTS = 4
"""Of the load, to see whether memory grows."""


@dataclass
class Rates:
    """Tokens per second, a figure for each turn."""

    bare: list[float] = field(default_factory=list)
    http: list[float] = field(default_factory=list)


async def bare_rate(services: Services) -> float:
    """The engine alone, its events read as they come."""

    async def one(number: int) -> int:
        ids = tuple(services.tokenizer.encode_chat([("user", f"Tell me about {number}.")]))
        sampling = SamplingParams(max_tokens=TOKENS, ignore_eos=True)
        stream = await services.engine.submit(GenerationRequest(str(number), ids, (), sampling))
        return sum([event.token_id is not None async for event in stream])

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


def cost(port: int, services: Services, turns: int) -> Rates:
    rates = Rates()
    load = Load(port, STREAMS, STREAMS, TOKENS, 0.0, 0.0, ("nano",), ignore_eos=True)
    asyncio.run(bare_rate(services))
    in_process(run_load, load)
    for _ in range(turns):
        rates.bare.append(asyncio.run(bare_rate(services)))
        told = in_process(run_load, load)
        rates.http.append(sum(told.tokens) / told.seconds)
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
            show_cost(cost(port, services, turns))
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
    print(f"{STREAMS} streams of {TOKENS} tokens, tokens/s: bare {bare:,.0f}, HTTP {http:,.0f} ({less})")
    print(f"  turns: bare {[round(rate) for rate in rates.bare]}, HTTP {[round(rate) for rate in rates.http]}")


def resident_mib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE >> 20


if __name__ == "__main__":
    typer.run(main)
