"""What a hot swap takes: `python -m bench.swap BASE [--experts DIR]`, or `python -m bench.swap BASE --churn`.

Question: how long is it from the name of an expert to its weights in a slot, when it lies lowered in host memory,
lowered on disk (page cache warm), or is seen for the first time (read, verified, lowered)? And what does PEFT need for
`load_adapter` + `set_adapter` and for `hotswap_adapter` on the same machine in the same run? Without `--experts`, one
LoRA and one DoRA of rank 16 on all linear layers are made for the base. Our times are those of a request: the store's
fetch, the host tier's answer on an event loop and the copy, one after another, with nothing else running. What
`--churn` asks is in bench/churn.py.
"""

import argparse
import asyncio
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from adapters_store.fingerprint import base_fingerprint
from adapters_store.light import LightReader
from adapters_store.store import AdapterStore
from bench import churn, options
from bench.make_experts import Recipe, make_expert
from bench.own import resident_bytes
from bench.report import processor, quantile
from bench.swap_peft import peft_swaps
from engine.config import EngineConfig
from engine.service import Engine
from training.experts import ATTENTION, MLP, lora

SLOTS = 4
MADE = {
    "lora-16-all": Recipe("lora", lambda: lora(16, ATTENTION + MLP)),
    "dora-16-all": Recipe("dora", lambda: lora(16, ATTENTION + MLP, dora=True)),
}


@dataclass(frozen=True, slots=True)
class Swaps:
    """Milliseconds of one expert's swaps, by where it was found."""

    name: str
    kind: str
    num_bytes: int
    """As it lies in a slot."""
    host: list[float]
    disk: list[float]
    first: list[float]


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of the process, and what the tiers say that they hold."""

    held_rss: int
    unloaded_rss: int
    held: dict[str, int]
    unloaded: dict[str, int]


class Bench:
    """Our engine without its thread: the swaps are made here, one at a time."""

    def __init__(self, args: argparse.Namespace, experts: Path, scratch: Path) -> None:
        self.args, self.experts, self.lowered = args, experts, scratch / "lowered"
        self.engine = Engine.load(
            EngineConfig(
                base=args.base,
                device=args.device,
                quantization=args.quantization,
                max_context=256,
                num_slots=SLOTS,
                adapter_storage=args.storage,
                lowered_dir=self.lowered,
            )
        )
        self.store = AdapterStore(experts, 4 << 30, LightReader())
        self.slot = 0

    async def swap(self, name: str) -> tuple[float, str]:
        """Milliseconds and the source."""
        began = time.perf_counter()
        with self.store.fetch(name) as lease:
            fetched = await self.engine._host.get(lease.adapter)
        self.engine._loop.runner.model.load_slot(self.slot, fetched.delta)
        if self.args.device != "cpu":
            torch.cuda.synchronize()
        took = (time.perf_counter() - began) * 1e3
        self.slot = (self.slot + 1) % SLOTS
        return took, fetched.source

    async def swaps_of(self, name: str) -> Swaps:
        with self.store.fetch(name) as lease:
            adapter = lease.adapter
        first, disk, host = [], [], []
        for _ in range(self.args.firsts):
            self.store = AdapterStore(self.experts, 4 << 30, LightReader())
            self.forget(adapter.generation)
            first.append(await self.timed(name, "package"))
        for _ in range(self.args.swaps):
            self.engine.unload(adapter.generation)
            disk.append(await self.timed(name, "disk"))
        for _ in range(self.args.swaps):
            host.append(await self.timed(name, "host"))
        fetched = await self.engine._host.get(adapter)
        return Swaps(name, adapter.manifest.kind_label, fetched.delta.num_bytes, host, disk, first)

    def forget(self, generation: str) -> None:
        """The engine has never seen it; what was written of it has reached the disk before."""
        host = self.engine._host
        host._lowerer.submit(lambda: None).result()
        self.engine.unload(generation)
        assert host._files is not None
        host._files.discard(generation)

    async def timed(self, name: str, source: str) -> float:
        took, found = await self.swap(name)
        if found != source:
            raise RuntimeError(f"{name} came from {found}, {source} was measured")
        if source == "package":
            self.engine._host._lowerer.submit(lambda: None).result()
        return took

    async def memory(self, names: Sequence[str]) -> Memory:
        """Of all experts held and in slots at one time, and after they were unloaded."""
        runner, generations = self.engine._loop.runner, []
        for name in names:
            await self.swap(name)
            with self.store.fetch(name) as lease:
                generations.append(lease.adapter.generation)
        held_rss, held = resident_bytes(), self.held()
        for generation in generations:
            self.engine.unload(generation)
        for slot in range(SLOTS):
            runner.model.clear_slot(slot)
        return Memory(held_rss, resident_bytes(), held, self.held())

    def held(self) -> dict[str, int]:
        return {tier: stats.num_bytes for tier, stats in self.engine.stats().tiers.items()}


async def measure(args: argparse.Namespace, experts: Path, scratch: Path) -> tuple[list[Swaps], Memory]:
    bench = Bench(args, experts, scratch)
    names = [manifest.name for manifest in bench.store.list()]
    found = [await bench.swaps_of(name) for name in names]
    memory = await bench.memory(names)
    bench.engine._host.close()
    return found, memory


def made_for(base: Path, directory: Path) -> Path:
    fingerprint, generator = base_fingerprint(base), torch.Generator().manual_seed(0)
    for name, recipe in MADE.items():
        make_expert(directory / name, recipe, base, fingerprint, generator)
    return directory


def show(found: Sequence[Swaps], memory: Memory, peers: dict[str, list[float]], args: argparse.Namespace) -> None:
    table = Table(title=f"Swaps of {args.base.name}, ms: median / p99 (first sight: median / worst)")
    for heading in ("expert", "kind", "MB", "host to slot", "disk to slot", "first sight"):
        table.add_column(heading, justify="left" if heading in ("expert", "kind") else "right")
    for swaps in found:
        table.add_row(swaps.name, swaps.kind, f"{swaps.num_bytes / 1e6:.2f}", *map(cell, (swaps.host, swaps.disk)),
                      cell(swaps.first))  # fmt: skip
    for name, values in peers.items():
        table.add_row(name, "", "", "", cell(values), "")
    Console(width=140).print(table)
    print(f"resident: {memory.held_rss / 1e6:.0f} MB with all experts, {memory.unloaded_rss / 1e6:.0f} MB unloaded; "
          f"the tiers' bytes: {memory.held} then {memory.unloaded}")  # fmt: skip
    record = {
        "bench": "swap",
        "unit": "ms",
        "settings": {**options.settings(args), "processor": processor()},
        "swaps": [asdict(swaps) for swaps in found],
        "peft": peers,
        "memory": asdict(memory),
    }
    print(json.dumps(record))


def cell(values: Sequence[float]) -> str:
    return f"{quantile(values, 0.5):.2f} / {quantile(values, 0.99):.2f}"


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--experts", type=Path, help="packages for the base; two are made where none are named")
    parser.add_argument("--storage", default="plain", choices=("plain", "int8", "int4"))
    parser.add_argument("--swaps", type=int, default=200, help="of each expert and source")
    parser.add_argument("--firsts", type=int, default=5, help="first sights of each expert")
    parser.add_argument("--without-peft", action="store_true")
    parser.add_argument("--churn", action="store_true", help="many experts through few slots instead")
    churn.add_arguments(parser)
    args = options.parse(parser)
    torch.set_num_threads(args.threads)
    scratch = Path(tempfile.mkdtemp(prefix="bench-swap-"))
    try:
        if args.churn:
            churn.run(args, scratch)
            return
        experts = args.experts or made_for(args.base, scratch / "experts")
        found, memory = asyncio.run(measure(args, experts, scratch))
        peers: dict[str, list[float]] = {}
        if not args.without_peft:
            packages = [experts / swaps.name for swaps in found if "soft_prompt" not in swaps.kind]
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                peers = pool.submit(peft_swaps, args.base, packages, args.threads).result()
        show(found, memory, peers, args)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
