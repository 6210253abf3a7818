"""transformers + PEFT as a peer: one expert after another, one request at a time, as a program of its own.

    python -m bench.sequential BASE --prompt 128 --output 128 --sampled 16

PEFT cannot hold experts of different kinds in one model, so each is put on the base, asked and taken off again; only
the answering is timed. Generates `--sampled` tokens per expert and extrapolates to `--output`: the first token's time
and that of the following ones are measured apart. Prints one JSON line.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM

from adapters_store.manifest import SOFT_PROMPT_FILE
from adapters_store.tensors import SOFT_PROMPT_TENSOR


def seconds_for(first: float, sampled: float, num_sampled: int, output: int) -> float:
    """Of `output` tokens, where the first took `first` and `num_sampled` of them, the first too, took `sampled`.

    Raises ValueError when the sample is too short to tell.
    """
    if output > num_sampled and sampled <= first:
        raise ValueError(f"{num_sampled} tokens took {sampled:.1f} s and the first alone {first:.1f} s")
    return first + (output - 1) * (sampled - first) / (num_sampled - 1)


@torch.inference_mode()
def generate_seconds(model: Any, ids: list[int], prompt: torch.Tensor | None, count: int) -> float:
    """Greedy and without an end token, so that exactly `count` tokens are generated."""
    embedded = model.get_input_embeddings()(torch.tensor([ids]))
    if prompt is not None:
        embedded = torch.cat([prompt[None].to(embedded.dtype), embedded], 1)
    mask = torch.ones(embedded.shape[:2], dtype=torch.long)
    began = time.perf_counter()
    found = model.generate(
        inputs_embeds=embedded, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False
    )
    elapsed = time.perf_counter() - began
    if found.shape[1] != count:
        raise RuntimeError(f"generate gave {found.shape[1]} tokens, {count} were asked for")
    return elapsed


def measure(base: Path, chosen: str, lengths: tuple[int, int], sampled: int, dtype: torch.dtype) -> list[float]:
    """Seconds of a whole request of each expert of the set; `lengths` are (prompt, output)."""
    model: Any = Qwen3ForCausalLM.from_pretrained(base, dtype=dtype).eval()
    draw, found = random.Random(0), []
    for package in sorted((base / "experts" / chosen).iterdir()):
        adapted: Any = PeftModel.from_pretrained(model, package).eval()
        prompt_file = package / SOFT_PROMPT_FILE
        prompt = load_file(prompt_file)[SOFT_PROMPT_TENSOR] if prompt_file.exists() else None
        ids = [draw.randrange(model.config.vocab_size) for _ in range(lengths[0])]
        generate_seconds(adapted, ids[:8], prompt, 2)
        first = generate_seconds(adapted, ids, prompt, 1)
        found.append(seconds_for(first, generate_seconds(adapted, ids, prompt, sampled), sampled, lengths[1]))
        model = adapted.unload()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--set", default="ten", dest="chosen")
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--output", type=int, default=128)
    parser.add_argument("--sampled", type=int, default=16, help="tokens that are really generated, at least 2")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.sampled < 2:
        parser.error(f"--sampled is {args.sampled}, at least 2 are needed")
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype: torch.dtype = getattr(torch, args.dtype)
    seconds = measure(args.base, args.chosen, (args.prompt, args.output), args.sampled, dtype)
    print(json.dumps({"seconds": seconds, "tokens_per_s": args.output * len(seconds) / sum(seconds)}))


if __name__ == "__main__":
    main()
