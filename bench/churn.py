"""Many experts through few slots: `python -m bench.swap BASE --churn`.

Question: with 1,000 registered experts, 10 slots and 16 clients that ask by Zipf's law, does any request fail, does
memory stay flat, how often is an expert found where it is needed, and what do the swaps cost those that are being
answered? The experts are copies of the given ones under other names, so that each is a generation of its own. The same
load then runs over the ten originals, which stay in their slots: same prompts, same kinds in the same order, no swaps.
Before the rounds every expert is asked for once, which is a row of its own: its package is read, verified and lowered.
"""

import argparse
import asyncio
import json
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapters_store.light import LightReader
from adapters_store.manifest import parse_manifest
from adapters_store.package import MANIFEST_FILE
from adapters_store.store import AdapterStore
from bench import options
from bench.own import resident_bytes, vocab_size
from bench.report import processor, quantile
from engine.config import EngineConfig
from engine.request import ExpertUse, GenerationRequest, SamplingParams
from engine.service import Engine

FILL = "first sights"


@dataclass(frozen=True, slots=True)
class Ask:
    expert: int
    """Rank by popularity."""
    prompt_ids: tuple[int, ...]


@dataclass(slots=True)
class Round:
    """One load as its clients saw it; times in ms."""

    name: str
    first_tokens: list[float]
    gaps: list[float]
    """Between the tokens of one answer."""
    num_failed: int = 0
    seconds: float = 0.0
    hits: dict[str, str] | None = None
    rss: tuple[int, ...] = ()
    """MB, after each quarter of the requests."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registered", type=int, default=1000, help="experts of the churn")
    parser.add_argument("--slots", type=int, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3, help="of the churn, each beside one on resident experts")
    parser.add_argument("--unfilled", action="store_true", help="let the rounds see the packages for the first time")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer; prompts have as many")
    parser.add_argument(
        "--host-mb", type=int, default=96, help="host memory for lowered experts and for packages, each"
    )


def run(args: argparse.Namespace, scratch: Path) -> None:
    if args.experts is None:
        raise SystemExit("--churn needs --experts: ten packages at most, to be copied under other names")
    names = copies(args.experts, scratch / "experts", args.registered)
    num_kinds = len({name.rpartition("--")[0] for name in names})
    if num_kinds > args.slots:
        raise SystemExit(f"{num_kinds} experts do not fit in {args.slots} slots")
    rounds = asyncio.run(measure(args, scratch, names, num_kinds))
    show(rounds, args)


def copies(source: Path, target: Path, count: int) -> list[str]:
    """`NAME--NUMBER`, the originals in turn."""
    originals = sorted(path for path in source.iterdir() if (path / MANIFEST_FILE).exists())
    names = []
    for number in range(count):
        original = originals[number % len(originals)]
        name = f"{original.name}--{number}"
        shutil.copytree(original, target / name)
        manifest = parse_manifest((original / MANIFEST_FILE).read_bytes())
        (target / name / MANIFEST_FILE).write_bytes(replace(manifest, name=name).to_json())
        names.append(name)
    return names


def asks_of(args: argparse.Namespace, seed: int) -> list[Ask]:
    """Zipf(1.0): the expert of rank n is asked for in proportion to 1 / n."""
    draw, vocab = random.Random(seed), vocab_size(args.base)
    ranks = range(args.registered)
    chosen = draw.choices(ranks, [1 / (rank + 1) for rank in ranks], k=args.requests)
    return [Ask(rank, tuple(draw.randrange(vocab) for _ in range(args.tokens))) for rank in chosen]


async def measure(args: argparse.Namespace, scratch: Path, names: Sequence[str], num_kinds: int) -> list[Round]:
    engine = Engine.load(
        EngineConfig(
            base=args.base,
            device=args.device,
            quantization=args.quantization,
            num_slots=args.slots,
            max_context=256,
            adapter_cache_bytes=args.host_mb << 20,
            lowered_dir=scratch / "lowered",
        )
    )
    store = AdapterStore(scratch / "experts", args.host_mb << 20, LightReader())
    engine.start()
    try:
        warm = [Ask(kind, (1, 2, 3)) for kind in range(num_kinds)]
        await load(engine, store, names[:num_kinds], warm, args, "warm-up")
        everybody = [Ask(rank, (1, 2, 3)) for rank in range(0 if args.unfilled else args.registered)]
        rounds = [await load(engine, store, names, everybody, args, FILL)] if everybody else []
        for number in range(args.rounds):
            asks = asks_of(args, number)
            resident = [replace(ask, expert=ask.expert % num_kinds) for ask in asks]
            rounds.append(await load(engine, store, names, resident, args, f"resident {number + 1}"))
            rounds.append(await load(engine, store, names, asks, args, f"churn {number + 1}"))
        return rounds
    finally:
        engine.stop()


async def load(
    engine: Engine, store: AdapterStore, names: Sequence[str], asks: Sequence[Ask], args: argparse.Namespace, name: str
) -> Round:
    """Every client takes the next ask as soon as its last one is answered."""
    found, before = Round(name, [], []), engine.stats().tiers
    rest, rss = iter(asks), [resident_bytes()]

    async def work() -> None:
        for ask in rest:
            try:
                await answer(engine, store, names[ask.expert], ask, args.tokens, found)
            except Exception as fault:  # whatever it is, it is a request that failed
                print(f"{name}: {type(fault).__name__}: {fault}")
                found.num_failed += 1
            if len(found.first_tokens) % max(len(asks) // 4, 1) == 0:
                rss.append(resident_bytes())

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(args.clients)))
    found.seconds, found.rss = time.perf_counter() - began, tuple(value >> 20 for value in rss)
    found.hits = {}
    for tier, stats in engine.stats().tiers.items():
        hits, misses = stats.hits - before[tier].hits, stats.misses - before[tier].misses
        found.hits[tier] = f"{100 * hits / (hits + misses):.1f}" if hits + misses else "-"
    return found


async def answer(engine: Engine, store: AdapterStore, name: str, ask: Ask, tokens: int, found: Round) -> None:
    began = time.perf_counter()
    with await asyncio.to_thread(store.fetch, name) as lease:
        use = ExpertUse(lease.adapter, 1.0, time.perf_counter() - began)
        sampling = SamplingParams(max_tokens=tokens, ignore_eos=True)
        generation = await engine.submit(GenerationRequest("churn", ask.prompt_ids, (use,), sampling))
        times = [time.perf_counter() async for event in generation if event.token_id is not None]
    if len(times) != tokens:
        raise RuntimeError(f"{len(times)} tokens came, {tokens} were asked for")
    found.first_tokens.append((times[0] - began) * 1e3)
    found.gaps += [(after - before) * 1e3 for before, after in pairwise(times)]


def show(rounds: Sequence[Round], args: argparse.Namespace) -> None:
    title = f"{args.requests} requests over {args.registered} experts, {args.slots} slots, {args.clients} at once"
    table = Table(
        title=title, caption="ms; found in a tier in %; memory after each quarter in MB", caption_justify="left"
    )
    for heading in ("load", "failed", "req/s", "gap p50", "gap p99", "gap max", "first p50", "first p99", "first max"):
        table.add_column(heading, justify="left" if heading == "load" else "right")
    table.add_column("device / host / disk")
    table.add_column("memory")
    for found in rounds:
        times = [quantile(values, share) for values in (found.gaps, found.first_tokens) for share in (0.5, 0.99, 1.0)]
        hits = " / ".join((found.hits or {}).values())
        table.add_row(
            found.name, str(found.num_failed), f"{len(found.first_tokens) / found.seconds:.0f}",
            *(f"{value:.2f}" for value in times), hits, " ".join(map(str, found.rss)),
        )  # fmt: skip
    Console(width=170).print(table)
    p99 = {found.name: quantile(found.gaps, 0.99) for found in rounds}
    for number in range(1, args.rounds + 1):
        grown = 100 * (p99[f"churn {number}"] / p99[f"resident {number}"] - 1)
        print(f"round {number}: p99 between tokens {grown:+.1f} % against resident experts")
    rows = [{**asdict(found), "first_tokens": None, "gaps": None, "gap_p99": p99[found.name]} for found in rounds]
    settings = {**options.settings(args), "processor": processor()}
    print(json.dumps({"bench": "churn", "unit": "ms", "settings": settings, "rounds": rows}))
