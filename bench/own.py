"""Our engine under a load, through `Engine.submit`, in a process of its own.

Owns the child process: its memory is the engine's alone and is given back when it ends, so that a peer that runs
afterwards has the machine to itself.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from adapters_store.package import HostAdapter, read_package
from bench.workload import Case, Job, Trace, closed_loop
from engine.config import EngineConfig
from engine.errors import EngineError
from engine.request import ExpertUse, GenerationRequest, SamplingParams
from engine.service import Engine


@dataclass(frozen=True, slots=True)
class EngineSpec:
    base: Path
    quantization: str
    device: str = "cpu"
    threads: int = 0
    """0 leaves it to torch: one per physical core."""
    max_context: int = 512
    kv_contexts: int = 0
    """Full contexts that the KV cache has room for; 0 leaves its size to the engine, which may preempt."""
    max_queue: int = 128


@dataclass(slots=True)
class EngineRun:
    """What was seen, by case and run; memory as it was after the first run of the first case."""

    traces: dict[str, list[list[Trace]]] = field(default_factory=dict)
    ready_s: float = 0.0
    """From the birth of the process, imports and all."""
    load_s: float = 0.0
    rss_bytes: int = 0
    library_bytes: int = 0
    """Resident before the engine was loaded: the interpreter and what it imported."""
    memory_bytes: dict[str, int] = field(default_factory=dict)


class EngineClient:
    """Asks an engine; packages are read once, before the clock of their first request starts."""

    def __init__(self, engine: Engine, base: Path) -> None:
        self.engine, self.base = engine, base
        self.adapters: dict[str, HostAdapter] = {}

    def read(self, case: Case) -> None:
        for name in sorted({job.expert for jobs in case.warm_up for job in jobs if job.expert} - self.adapters.keys()):
            self.adapters[name] = read_package(self.base / "experts" / name)

    async def ask(self, job: Job) -> Trace:
        """Greedy, to the full length."""
        experts = (ExpertUse(self.adapters[job.expert], 1.0),) if job.expert else ()
        sampling = SamplingParams(max_tokens=job.max_tokens, ignore_eos=True)
        submitted = time.perf_counter()
        generation = await self.engine.submit(GenerationRequest("bench", job.prompt_ids, experts, sampling))
        times = [time.perf_counter() async for event in generation if event.token_id is not None]
        if len(times) != job.max_tokens:
            raise RuntimeError(f"{len(times)} tokens came, {job.max_tokens} were asked for")
        return Trace(submitted, tuple(times))


def run_engine(spec: EngineSpec, cases: Sequence[Case]) -> EngineRun:
    """All cases in turn, run by run, so that what drifts on the machine touches each of them alike."""
    born = time.time()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, spec, cases, born).result()


def vocab_size(base: Path) -> int:
    found: int = json.loads((base / "config.json").read_text())["vocab_size"]
    return found


def _measure(spec: EngineSpec, cases: Sequence[Case], born: float) -> EngineRun:
    if spec.threads:
        torch.set_num_threads(spec.threads)
    run = EngineRun({case.name: [] for case in cases}, library_bytes=resident_bytes())
    began = time.perf_counter()
    config = EngineConfig(
        base=spec.base,
        device=spec.device,
        quantization=spec.quantization,
        max_context=spec.max_context,
        max_queue=spec.max_queue,
    )
    engine = Engine.load(replace(config, kv_blocks=spec.kv_contexts * -(-spec.max_context // config.block_size)))
    engine.start()
    run.load_s, run.ready_s = time.perf_counter() - began, time.time() - born
    try:
        asyncio.run(_run_all(EngineClient(engine, spec.base), cases, run))
    except EngineError as fault:
        # Its own kind does not survive the way to the parent process.
        raise RuntimeError(f"{type(fault).__name__}: {fault}") from fault
    finally:
        engine.stop()
    return run


async def _run_all(client: EngineClient, cases: Sequence[Case], run: EngineRun) -> None:
    for number in range(len(cases[0].runs)):
        for case in cases:
            if number == 0:
                client.read(case)
                await closed_loop(client.ask, case.warm_up)
            run.traces[case.name].append(await closed_loop(client.ask, case.runs[number]))
            if not run.rss_bytes:
                run.rss_bytes, run.memory_bytes = resident_bytes(), client.engine.stats().memory_bytes


def resident_bytes() -> int:
    """Of this process, code and mapped files included; needs Linux."""
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in status if line.startswith("VmRSS:"))
    return int(kilobytes) * 1024
