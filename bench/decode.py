"""How fast it decodes: `python -m bench.decode BASE [--quantization int8,int4] [--llama-bench PATH] ...`.

Question: how many tokens per second does one stream get after a prompt of 256 tokens, and ten rows together after
prompts of 1,024, without adapters and with ten different ones? Prefill is not counted: the clock runs while all rows
decode. Beside llama-bench for one stream and llama-batched-bench for ten rows (both without adapters).
"""

import argparse
from pathlib import Path

from bench import options
from bench.mixed import ROOM, TEN, experts_of
from bench.own import EngineSpec, run_engine, vocab_size
from bench.peers import batched_samples, bench_samples
from bench.report import Figure, show
from bench.workload import Case, Prompts, decode_rate, even_case

ONE, TEN_ROWS, TEN_EXPERTS = "one stream", "ten rows", "ten rows, ten experts"
LLAMA_KINDS = ("q8_0", "q4_0")


def make_cases(args: argparse.Namespace) -> list[Case]:
    """Ten prompts are prefilled in turn; the outputs are long enough for the first to wait for the last."""
    prompts = Prompts(vocab_size(args.base))
    waiting = -(-10 * args.batch_context // 512)
    return [
        even_case(ONE, prompts, [None], (args.context, args.output), args.runs),
        even_case(TEN_ROWS, prompts, [None] * 10, (args.batch_context, waiting + args.output), args.runs),
        even_case(
            TEN_EXPERTS,
            prompts,
            experts_of(args.base, TEN),
            (args.batch_context, waiting + args.output),
            args.runs,
        ),
    ]


def own_figures(args: argparse.Namespace, quantization: str) -> dict[str, Figure]:
    longest = max(args.context, args.batch_context + 10 * args.batch_context // 512) + args.output + ROOM
    spec = EngineSpec(args.base, quantization, args.device, args.threads, longest, 10)
    run = run_engine(spec, make_cases(args))
    return {
        name: Figure(f"ours {quantization}: {name}", tuple(map(decode_rate, traces)))
        for name, traces in run.traces.items()
    }


def one_stream_peers(args: argparse.Namespace) -> list[Figure]:
    names = {kind: f"llama-bench {kind.upper()}: {ONE}" for kind in LLAMA_KINDS}
    if args.llama_bench is None:
        return [options.not_run(name, "--llama-bench") for name in names.values()]
    load = (0, args.output, args.context)
    return [
        Figure(name, bench_samples(args.llama_bench, gguf(args.base, kind), args.threads, args.runs, load))
        for kind, name in names.items()
    ]


def ten_row_peers(args: argparse.Namespace) -> list[Figure]:
    names = {kind: f"llama-batched-bench {kind.upper()}: {TEN_ROWS}" for kind in LLAMA_KINDS}
    if args.llama_batched_bench is None:
        return [options.not_run(name, "--llama-batched-bench") for name in names.values()]
    load = (args.batch_context, args.output, 10)
    return [
        Figure(name, batched_samples(args.llama_batched_bench, gguf(args.base, kind), args.threads, args.runs, load))
        for kind, name in names.items()
    ]


def gguf(base: Path, kind: str) -> Path:
    return base / "gguf" / f"base-{kind}.gguf"


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--context", type=int, default=256, help="prompt tokens of the one stream")
    parser.add_argument("--batch-context", type=int, default=1024, help="prompt tokens of each of ten rows")
    parser.add_argument("--output", type=int, help="tokens; default 64, quick 16")
    parser.add_argument("--llama-bench", type=Path, help="path of the program")
    parser.add_argument("--llama-batched-bench", type=Path, help="path of the program")
    args = options.parse(parser)
    args.output = args.output or (16 if args.quick else 64)
    own = [own_figures(args, quantization) for quantization in args.quantization.split(",")]
    one = [*(figures[ONE] for figures in own), *one_stream_peers(args)]
    ten = [*(figures[name] for figures in own for name in (TEN_ROWS, TEN_EXPERTS)), *ten_row_peers(args)]
    title = f"Decoding: one stream at context {args.context}, ten rows at {args.batch_context}, {args.threads} threads"
    show("decode", title, [one, ten], options.settings(args))


if __name__ == "__main__":
    main()
