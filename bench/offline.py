"""A heap of requests at once: `python -m bench.offline BASE [--requests 256] [--max-length 1024]`.

Question: 256 requests are all submitted at the start, prompt and output each between 100 and 1,024 tokens, seed 0, the
end token ignored. How many tokens are generated per second until the last is done? The load is the one that small
engines publish; a CPU gets a part of it unless told otherwise, and the title says which.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench import options
from bench.mixed import TEN, experts_of
from bench.own import EngineRun, run_engine, vocab_size
from bench.peers import ServerSpec, run_server
from bench.report import Figure, show
from bench.workload import WARM_UP_TOKENS, Case, Clients, Job, Prompts, throughput

FULL_REQUESTS, FULL_LENGTH, LOWEST_LENGTH = 256, 1024, 100
CPU_REQUESTS, CPU_LENGTH, QUICK_REQUESTS = 32, 256, 8
VIRTUAL_TOKENS = 32
ALONE, MIXED = "no adapters", "ten experts in turn"
LLAMA_ROW, LLAMA_SLOTS = "llama-server Q4_0: no adapters", 10


def make_case(args: argparse.Namespace, name: str, experts: list[str | None]) -> Case:
    """Both cases draw the same lengths."""
    prompts = Prompts(vocab_size(args.base), seed=0)
    lowest = min(LOWEST_LENGTH, args.max_length)

    def clients(count: int, limit: int) -> Clients:
        jobs = []
        for number in range(count):
            inner, outer = (prompts.length(lowest, args.max_length) for _ in range(2))
            jobs.append((Job(prompts.draw(inner), min(outer, limit), experts[number % len(experts)]),))
        return tuple(jobs)

    measured = tuple(clients(args.requests, args.max_length) for _ in range(args.runs))
    return Case(name, clients(len(experts), WARM_UP_TOKENS), measured)


def measure(args: argparse.Namespace, cases: Sequence[Case]) -> EngineRun:
    spec = options.engine_spec(args, 2 * args.max_length + VIRTUAL_TOKENS, 0)
    return run_engine(replace(spec, max_queue=args.requests + len(cases[1].warm_up)), cases)


def llama_figure(args: argparse.Namespace, alone: Case) -> Figure:
    """All requests are sent at the start; its slots take them in turn."""
    if args.llama_server is None:
        return options.not_run(LLAMA_ROW, "--llama-server")
    slots = min(args.requests, LLAMA_SLOTS)
    model = args.base / "gguf" / "base-q4_0.gguf"
    traces = run_server(ServerSpec(args.llama_server, model, args.threads, 2 * args.max_length, slots), [alone])
    return Figure(LLAMA_ROW, tuple(map(throughput, traces[alone.name])))


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--requests", type=int, help=f"default {FULL_REQUESTS}, on a CPU {CPU_REQUESTS}")
    parser.add_argument("--max-length", type=int, help=f"default {FULL_LENGTH}, on a CPU {CPU_LENGTH}")
    parser.add_argument("--llama-server", type=Path, help="path of the program")
    args = options.parse(parser)
    on_cpu = args.device == "cpu"
    args.requests = args.requests or (QUICK_REQUESTS if args.quick else CPU_REQUESTS if on_cpu else FULL_REQUESTS)
    args.max_length = args.max_length or (CPU_LENGTH if on_cpu else FULL_LENGTH)
    cases = [make_case(args, ALONE, [None]), make_case(args, MIXED, experts_of(args.base, TEN))]
    run = measure(args, cases)
    is_full = (args.requests, args.max_length) == (FULL_REQUESTS, FULL_LENGTH)
    scale = "" if is_full else f"; the full load is {FULL_REQUESTS} of up to {FULL_LENGTH}"
    title = f"{args.requests} requests at once, up to {args.max_length} + {args.max_length} tokens{scale}"
    figures = [
        Figure(f"ours {args.quantization}: {name}", tuple(map(throughput, traces)))
        for name, traces in run.traces.items()
    ]
    show("offline", title, [[*figures, llama_figure(args, cases[0])]], options.settings(args))


if __name__ == "__main__":
    main()
