"""How large the experts are: `python -m bench.sizes`.

Question: how many bytes has each package, and how many would the same recipe have on Qwen3-0.6B, in which of the size
classes that the design names? The values are counted by the engine's own arithmetic on PEFT's configuration.
"""

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapters_store.package import read_package
from engine import expert_size
from engine.expert_size import shape_of
from engine.model.config import ModelConfig, read_config
from training.experts import EXPERTS, ExpertSpec

SHAPE = Path(__file__).parent / "shapes" / "Qwen3-0.6B"
CLASSES = {"ultralight": (1, 5), "medium": (10, 20), "heavy": (20, 50)}
"""In MB of 16-bit values."""


def qwen3_shape() -> ModelConfig:
    """Qwen3-0.6B: the figures of its published config.json."""
    return read_config(SHAPE)


def num_values(spec: ExpertSpec, shape: ModelConfig) -> int:
    return expert_size.num_values(shape_of(spec.config().to_dict(), spec.virtual_tokens), shape)


def size_class(megabytes: float) -> str:
    """The class, and how far up in it; or between which classes it falls."""
    for name, (low, high) in CLASSES.items():
        if low <= megabytes <= high:
            return f"{name}, {100 * (megabytes - low) / (high - low):.0f} % up"
    if megabytes < 1:
        return "below all classes"
    return "between classes" if megabytes < 50 else "above all classes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experts", type=Path, default=Path("adapters_store/experts"))
    args = parser.parse_args()
    table = Table(title="Expert packages; MB are 10^6 bytes of 16-bit values")
    for heading in ("expert", "adapter", "package on nano, KiB", "values on Qwen3-0.6B", "MB", "size class"):
        table.add_column(heading, justify="left" if heading in ("expert", "adapter", "size class") else "right")
    for name, spec in EXPERTS.items():
        package = args.experts / name
        kind = read_package(package).manifest.kind_label
        stored = sum(file.stat().st_size for file in package.iterdir())
        values = num_values(spec, qwen3_shape())
        megabytes = 2 * values / 1e6
        table.add_row(name, kind, f"{stored / 1024:.0f}", f"{values:,}", f"{megabytes:.2f}", size_class(megabytes))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
