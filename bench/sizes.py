"""How large the experts are: `python -m bench.sizes`.

Question: how many bytes has each package, and how many would the same recipe have on Qwen3-0.6B, in which of the size
classes that the design names? PEFT makes each adapter on a model of that shape without weights and counts its values.
"""

import argparse
from pathlib import Path

import torch
from peft import get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import Qwen3Config, Qwen3ForCausalLM

from adapters_store.package import read_package
from training.experts import EXPERTS, ExpertSpec

CLASSES = {"ultralight": (1, 5), "medium": (10, 20), "heavy": (20, 50)}
"""In MB of 16-bit values."""


def qwen3_shape() -> Qwen3Config:
    """Qwen3-0.6B, from its published config.json."""
    return Qwen3Config(
        vocab_size=151_936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    )


def num_values(spec: ExpertSpec, shape: Qwen3Config) -> int:
    with torch.device("meta"):
        model = get_peft_model(Qwen3ForCausalLM(shape), spec.config())
    return sum(p.numel() for p in model.parameters() if p.requires_grad) + spec.virtual_tokens * shape.hidden_size


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
