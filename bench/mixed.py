"""Ten clients with ten experts at once: `python -m bench.mixed BASE [--quantization int8,int4] [--llama-server PATH]`.

Question: ten clients ask as fast as they are answered, each with an expert of its own, 128 prompt tokens and 128 of
output. How many generated tokens per second are that in all, prefill counted, beside the base alone, beside
llama-server with ten LoRAs and beside transformers with PEFT? llama.cpp runs LoRA alone, so its ten LoRAs are a row of
ours as well. Also: how much memory, and how long until ready (the JSON line says it of the first quantization).
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bench import options
from bench.own import EngineRun, run_engine, vocab_size
from bench.peers import ServerSpec, program_output, run_server
from bench.report import Figure, show
from bench.workload import Case, Prompts, even_case, throughput

TEN, BASE_ALONE, TEN_LORA, TEN_ATTENTION = "ten", "base alone", "ten_lora", "ten_attention"
OWN_ROWS = {
    TEN: "ours: 4 IA3 + prompt, 4 DoRA, LoKr, LoRA",
    BASE_ALONE: "ours: no adapters",
    TEN_LORA: "ours: ten LoRA r16, all linear layers",
    TEN_ATTENTION: "ours: ten LoRA r16, q/k/v/o",
}
LLAMA_ROWS = {TEN_ATTENTION: "llama-server Q4_0: ten LoRA r16, q/k/v/o", BASE_ALONE: "llama-server Q4_0: no adapters"}
TRANSFORMERS_ROW = "transformers + PEFT bf16: the first row's ten"
ROOM = 64
"""Positions beside prompt and output: virtual tokens, and what rounding up to blocks takes."""


def experts_of(base: Path, case: str) -> list[str | None]:
    """One per client."""
    if case == BASE_ALONE:
        return [None] * 10
    return [f"{case}/{package.name}" for package in sorted((base / "experts" / case).iterdir())]


def make_cases(args: argparse.Namespace) -> dict[str, Case]:
    prompts, lengths = Prompts(vocab_size(args.base)), (args.prompt, args.output)
    return {
        name: even_case(name, prompts, experts_of(args.base, name), lengths, args.runs, args.rounds)
        for name in OWN_ROWS
    }


def own_figures(quantization: str, run: EngineRun) -> list[Figure]:
    return [
        Figure(row.replace("ours", f"ours {quantization}"), tuple(map(throughput, run.traces[name])))
        for name, row in OWN_ROWS.items()
    ]


def llama_figures(args: argparse.Namespace, cases: Mapping[str, Case]) -> list[Figure]:
    """One server for both rows: without an adapter its clients share a batch, with one each they do not."""
    if args.llama_server is None:
        return [options.not_run(row, "--llama-server") for row in LLAMA_ROWS.values()]
    loras = tuple(sorted((args.base / "gguf" / TEN_ATTENTION).iterdir()))
    model = args.base / "gguf" / "base-q4_0.gguf"
    spec = ServerSpec(args.llama_server, model, args.threads, args.prompt + args.output + ROOM, len(loras), loras)
    traces = run_server(spec, [cases[name] for name in LLAMA_ROWS])
    return [Figure(row, tuple(map(throughput, traces[name]))) for name, row in LLAMA_ROWS.items()]


def transformers_figure(args: argparse.Namespace) -> Figure:
    if not args.transformers:
        return options.not_run(TRANSFORMERS_ROW, "--transformers")
    sampled = min(args.output, 8)
    command = [sys.executable, "-m", "bench.sequential", str(args.base), "--threads", str(args.threads)]
    command += ["--prompt", str(args.prompt), "--output", str(args.output), "--sampled", str(sampled)]
    try:
        speed = json.loads(program_output(command).splitlines()[-1])["tokens_per_s"]
    except subprocess.TimeoutExpired as late:
        return Figure(TRANSFORMERS_ROW, (), f"took more than {late.timeout:.0f} s")
    note = f"one after another, extrapolated from {sampled} tokens each"
    return Figure(TRANSFORMERS_ROW, (speed,), note)


def memory_line(quantization: str, run: EngineRun) -> str:
    mib = {kind: held / 2**20 for kind, held in run.memory_bytes.items()}
    parts = ", ".join(f"{kind} {held:.0f}" for kind, held in mib.items())
    said = f"the engine says {sum(mib.values()):.0f} ({parts})"
    libraries = run.library_bytes / 2**20
    own = run.rss_bytes / 2**20 - libraries
    return (
        f"Memory with the ten in {quantization}: {own:.0f} MiB resident beside {libraries:.0f} of interpreter and "
        "libraries; "
        f"{said}, so {own / sum(mib.values()):.2f} of that is resident. "
        f"Ready {run.ready_s:.1f} s after the process began, {run.load_s:.1f} s of it loading."
    )


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--prompt", type=int, default=128, help="tokens")
    parser.add_argument("--output", type=int, help="tokens; default 128, quick 32")
    parser.add_argument("--rounds", type=int, default=1, help="requests of each client in a run")
    parser.add_argument("--llama-server", type=Path, help="path of the program")
    parser.add_argument("--transformers", action="store_true", help="run transformers + PEFT too, for minutes")
    args = options.parse(parser)
    args.output = args.output or (32 if args.quick else 128)
    cases = make_cases(args)
    spec = options.engine_spec(args, args.prompt + args.output + ROOM, 10)
    runs = {
        quantization: run_engine(replace(spec, quantization=quantization), list(cases.values()))
        for quantization in args.quantization.split(",")
    }
    run = next(iter(runs.values()))
    title = f"Ten clients, ten experts: {args.prompt} + {args.output} tokens, {args.threads} threads"
    memory = {"rss_bytes": run.rss_bytes, "library_bytes": run.library_bytes, "memory_bytes": run.memory_bytes}
    times = {"ready_s": round(run.ready_s, 2), "load_s": round(run.load_s, 2)}
    own = [figure for quantization, run in runs.items() for figure in own_figures(quantization, run)]
    figures = [*own, *llama_figures(args, cases), transformers_figure(args)]
    caption = "\n".join(memory_line(quantization, run) for quantization, run in runs.items())
    show("mixed", title, [figures], {**options.settings(args), **memory, **times}, caption)


if __name__ == "__main__":
    main()
