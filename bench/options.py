"""The command line that the engine benches share, and what follows from it."""

import argparse
from pathlib import Path

import torch

from bench.own import EngineSpec
from bench.report import Figure

QUANTIZATIONS = {"cpu": "int8", "cuda": "nf4"}
"""Defaults by device, as in the server."""


def parser(description: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("base", type=Path, help="a directory made by bench.make_base")
    made.add_argument("--device", default="cpu", help="of our engine; peers run on the CPU")
    made.add_argument("--quantization", help="of our engine; comma-separated where a bench compares them")
    made.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: one per physical core")
    made.add_argument("--runs", type=int, default=3, help="the median is shown")
    made.add_argument("--quick", action="store_true", help="one run and short answers")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """Fills in what depends on other arguments."""
    args = made.parse_args()
    args.quantization = args.quantization or QUANTIZATIONS[args.device.partition(":")[0]]
    args.runs = 1 if args.quick else args.runs
    for path in [value for value in vars(args).values() if isinstance(value, Path)]:
        if not path.exists():
            made.error(f"{path} does not exist")
    return args


def engine_spec(args: argparse.Namespace, max_context: int, kv_contexts: int) -> EngineSpec:
    return EngineSpec(args.base, args.quantization, args.device, args.threads, max_context, kv_contexts)


def settings(args: argparse.Namespace) -> dict[str, object]:
    """For the JSON line: what was asked for, with the programs by their names alone."""
    plain = {key: value.name if isinstance(value, Path) else value for key, value in vars(args).items()}
    return {**plain, "torch": torch.__version__}


def not_run(name: str, flag: str) -> Figure:
    return Figure(name, (), f"needs {flag}")
