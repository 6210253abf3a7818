"""Many experts through few slots: `python -m bench.swap BASE --churn`.

Question: with 1,000 registered experts, 10 slots and 16 clients that ask by Zipf's law, does any request fail, does
memory stay flat, how often is an expert found where it is needed, and what do the swaps cost those that are being
answered? The experts are copies of the given ones under other names, so that each is a generation of its own. The same
load then runs over the ten originals, which stay in their slots: same prompts, same kinds in the same order, no swaps;
both are cut into slices that take turns, since the machine's speed drifts.
Before them every expert is asked for once, which is a row of its own: its package is read, verified and lowered.
"""

import argparse
import asyncio
import gc
import json
import random
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
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

SWITCH_SECONDS = 0.0005
FILL, RESIDENT, CHURN = "first sights", "resident", "churn"


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
    tiers: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Hits and misses."""
    rss: tuple[int, ...] = ()
    """MB, at the end of each slice."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--registered", type=int, default=1000, help="experts of the churn")
    parser.add_argument("--slots", type=int, default=10)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--slices", type=int, default=8, help="of both loads, which take turns")
    parser.add_argument("--unfilled", action="store_true", help="let the churn see the packages for the first time")
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
    gc.freeze()  # as the server does, and the next line too
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    engine.start()
    try:
        warm = [Ask(kind, (1, 2, 3)) for kind in range(num_kinds)]
        await load(engine, store, names[:num_kinds], warm, args, "warm-up")
        everybody = [Ask(rank, (1, 2, 3)) for rank in range(0 if args.unfilled else args.registered)]
        rounds = [await load(engine, store, names, everybody, args, FILL)] if everybody else []
        asks, slices = asks_of(args, 0), []
        for number in range(args.slices):
            part = asks[number :: args.slices]
            await load(engine, store, names[:num_kinds], warm, args, "warm-up")
            resident = [replace(ask, expert=ask.expert % num_kinds) for ask in part]
            slices.append(await load(engine, store, names, resident, args, RESIDENT))
            slices.append(await load(engine, store, names, part, args, CHURN))
        return [*rounds, *(pooled([one for one in slices if one.name == name]) for name in (RESIDENT, CHURN))]
    finally:
        engine.stop()
        sys.setswitchinterval(before)
        gc.unfreeze()


async def load(
    engine: Engine, store: AdapterStore, names: Sequence[str], asks: Sequence[Ask], args: argparse.Namespace, name: str
) -> Round:
    """Every client takes the next ask as soon as its last one is answered."""
    found, before = Round(name, [], []), engine.stats().tiers
    rest = iter(asks)

    async def work() -> None:
        for ask in rest:
            try:
                await answer(engine, store, names[ask.expert], ask, args.tokens, found)
            except Exception as fault:  # whatever it is, it is a request that failed
                print(f"{name}: {type(fault).__name__}: {fault}")
                found.num_failed += 1

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(args.clients)))
    found.seconds, found.rss = time.perf_counter() - began, (resident_bytes() >> 20,)
    for tier, stats in engine.stats().tiers.items():
        found.tiers[tier] = (stats.hits - before[tier].hits, stats.misses - before[tier].misses)
    return found


def pooled(slices: Sequence[Round]) -> Round:
    """One load from its slices."""
    return Round(
        name=slices[0].name,
        first_tokens=[value for one in slices for value in one.first_tokens],
        gaps=[value for one in slices for value in one.gaps],
        num_failed=sum(one.num_failed for one in slices),
        seconds=sum(one.seconds for one in slices),
        tiers={
            tier: (sum(one.tiers[tier][0] for one in slices), sum(one.tiers[tier][1] for one in slices))
            for tier in slices[0].tiers
        },
        rss=tuple(value for one in slices for value in one.rss),
    )


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


def share(hits: int, misses: int) -> str:
    return f"{100 * hits / (hits + misses):.1f}" if hits + misses else "-"


def show(rounds: Sequence[Round], args: argparse.Namespace) -> None:
    title = f"{args.requests} requests over {args.registered} experts, {args.slots} slots, {args.clients} at once"
    table = Table(
        title=title, caption="ms; found in a tier in %; memory after each slice in MB", caption_justify="left"
    )
    for heading in ("load", "failed", "req/s", "gap p50", "gap p99", "gap max", "first p50", "first p99", "first max"):
        table.add_column(heading, justify="left" if heading == "load" else "right")
    table.add_column("device / host / disk")
    table.add_column("memory")
    for found in rounds:
        times = [quantile(values, at) for values in (found.gaps, found.first_tokens) for at in (0.5, 0.99, 1.0)]
        hits = " / ".join(share(*counts) for counts in found.tiers.values())
        table.add_row(
            found.name, str(found.num_failed), f"{len(found.first_tokens) / found.seconds:.0f}",
            *(f"{value:.2f}" for value in times), hits, " ".join(map(str, found.rss)),
        )  # fmt: skip
    Console(width=170).print(table)
    p99 = {found.name: quantile(found.gaps, 0.99) for found in rounds}
    grown = 100 * (p99[CHURN] / p99[RESIDENT] - 1)
    print(f"p99 between tokens: {grown:+.1f} % against resident experts")
    rows = [{**asdict(found), "first_tokens": None, "gaps": None, "gap_p99": p99[found.name]} for found in rounds]
    settings = {**options.settings(args), "processor": processor()}
    print(json.dumps({"bench": "churn", "unit": "ms", "settings": settings, "rounds": rows}))
