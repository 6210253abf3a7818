"""Where a step goes: `python -m bench.steps BASE [--quantization int4] [--rows 10] [--context 192]`.

Question: of a decoding step with one expert for each row, and of one without any, how many milliseconds are spent in
which part of its blocks, and how many outside of them, in planning, sampling and the head? Medians over the steps of
one run.
"""

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.table import Table

from bench import options
from bench.mixed import BASE_ALONE, TEN, experts_of
from bench.own import EngineClient, vocab_size
from bench.workload import Case, Prompts, closed_loop, even_case
from engine.config import EngineConfig
from engine.model.native import NativeTransformer
from engine.service import Engine

ROOM = 64


def measure(args: argparse.Namespace, name: str) -> dict[str, float]:
    """Milliseconds of a step by part, and in all."""
    experts: Sequence[str | None] = (experts_of(args.base, name) * args.rows)[: args.rows]
    lengths = (args.context, args.output)
    case = even_case(name, Prompts(vocab_size(args.base)), experts, lengths, 1)
    engine = Engine.load(
        EngineConfig(
            base=args.base, quantization=args.quantization, max_context=sum(lengths) + ROOM, max_batch=args.rows
        )
    )
    model = engine._loop.runner.model
    if not isinstance(model, NativeTransformer):
        raise SystemExit("the fused kernels do not serve this base on this machine")
    steps: list[dict[str, float]] = []
    step = engine._loop.step

    def timed() -> None:
        before, began = model.kernels.seconds(), time.perf_counter()
        step()
        taken = time.perf_counter() - began
        parts = {part: seconds - before[part] for part, seconds in model.kernels.seconds().items()}
        steps.append({**parts, "in all": taken})

    engine._loop.step = timed  # type: ignore[method-assign]
    engine.start()
    try:
        asyncio.run(run(EngineClient(engine, args.base), case, steps))
    finally:
        engine.stop()
    decoding = steps[len(steps) // 2 :]  # the first half holds the prompts
    parts: dict[str, list[float]] = defaultdict(list)
    for one in decoding:
        for part, seconds in one.items():
            parts[part].append(seconds * 1e3)
    return {part: median(found) for part, found in parts.items()}


async def run(client: EngineClient, case: Case, steps: list[dict[str, float]]) -> None:
    client.read(case)
    await closed_loop(client.ask, case.warm_up)
    steps.clear()
    await closed_loop(client.ask, case.runs[0])


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--context", type=int, default=192, help="prompt tokens of each row")
    parser.add_argument("--output", type=int, default=48, help="tokens")
    args = options.parse(parser)
    found = {name: measure(args, name) for name in (TEN, BASE_ALONE)}
    table = Table(title=f"A step of {args.rows} rows at context {args.context}, ms, {args.threads} threads")
    for heading in ("part", *found):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for part in found[TEN]:
        table.add_row(part, *(f"{parts[part]:.1f}" for parts in found.values()), end_section=part == "in all")
    rest = [parts["in all"] - sum(ms for part, ms in parts.items() if part != "in all") for parts in found.values()]
    table.add_row("outside the blocks", *(f"{ms:.1f}" for ms in rest))
    Console(width=100).print(table)
    print(json.dumps({"bench": "steps", "unit": "ms", "settings": options.settings(args), "parts": found}))


if __name__ == "__main__":
    main()
