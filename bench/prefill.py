"""How fast it reads a prompt: `python -m bench.prefill BASE [--llama-bench PATH]`.

Question: how many prompt tokens per second does one request get from submission to its first token, at 512 tokens and
at a shorter and a longer prompt, beside llama-bench (which draws no token and so spares the sampling)?
"""

import argparse
from pathlib import Path

from bench import options
from bench.decode import gguf
from bench.mixed import ROOM
from bench.own import run_engine, vocab_size
from bench.peers import bench_samples
from bench.report import Figure, show
from bench.workload import Prompts, even_case, prefill_rate

LLAMA_KIND = "q8_0"


def own_figures(args: argparse.Namespace, lengths: list[int]) -> list[Figure]:
    prompts = Prompts(vocab_size(args.base))
    cases = [even_case(str(length), prompts, [None], (length, 1), args.runs) for length in lengths]
    run = run_engine(options.engine_spec(args, max(lengths) + ROOM, 1), cases)
    return [
        Figure(
            f"ours {args.quantization}: {length} tokens",
            tuple(prefill_rate(traces, length) for traces in run.traces[str(length)]),
        )
        for length in lengths
    ]


def llama_figure(args: argparse.Namespace, length: int) -> Figure:
    name = f"llama-bench {LLAMA_KIND.upper()}: {length} tokens"
    if args.llama_bench is None:
        return options.not_run(name, "--llama-bench")
    load = (length, 0, 0)
    return Figure(name, bench_samples(args.llama_bench, gguf(args.base, LLAMA_KIND), args.threads, args.runs, load))


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--lengths", default="512,128,2048", help="comma-separated, prompt tokens")
    parser.add_argument("--llama-bench", type=Path, help="path of the program")
    args = options.parse(parser)
    lengths = [int(length) for length in args.lengths.split(",")]
    own = own_figures(args, lengths)
    sections = [[figure, llama_figure(args, length)] for length, figure in zip(lengths, own, strict=True)]
    show("prefill", f"Prefill of one prompt, {args.threads} threads", sections, options.settings(args))


if __name__ == "__main__":
    main()
