"""PEFT's own ways to change adapters, timed in a process of their own: the peer of `bench.swap`."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils.hotswap import hotswap_adapter
from transformers import Qwen3ForCausalLM

REPEATS = 5


def peft_swaps(base: Path, packages: Sequence[Path], threads: int) -> dict[str, list[float]]:
    """Milliseconds by expert and way, from files in the page cache, base in bf16; what PEFT refuses is left out.

    `load_adapter` + `set_adapter` adds the adapter under a new name, and deleting it afterwards is not timed;
    `hotswap_adapter` overwrites the weights of one of the same shape.
    """
    torch.set_num_threads(threads)
    found: dict[str, list[float]] = {}
    for package in packages:
        model: Any = Qwen3ForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval()
        adapted: Any = PeftModel.from_pretrained(model, package).eval()
        found[f"PEFT load_adapter + set_adapter, {package.name}"] = [load(adapted, package) for _ in range(REPEATS)]
        try:
            found[f"PEFT hotswap_adapter, {package.name}"] = [hotswap(adapted, package) for _ in range(REPEATS)]
        except (KeyError, NotImplementedError, ValueError):  # it knows LoRA alone, and fails over DoRA's magnitudes
            continue
    return found


def load(adapted: Any, package: Path) -> float:
    def change() -> None:
        adapted.load_adapter(package, "other")
        adapted.set_adapter("other")

    took = milliseconds(change)
    adapted.set_adapter("default")
    adapted.delete_adapter("other")
    return took


def hotswap(adapted: Any, package: Path) -> float:
    return milliseconds(lambda: hotswap_adapter(adapted, str(package), adapter_name="default"))


def milliseconds(change: Callable[[], None]) -> float:
    began = time.perf_counter()
    change()
    return (time.perf_counter() - began) * 1e3
