"""Make a base of Qwen3-0.6B's shape with random weights, for measuring speed: `python -m bench.make_base DIR`.

Owns the shape and the weights. DIR gets a bf16 checkpoint with config and tokenizer, `experts/` (see `make_experts`)
and `gguf/` (see `gguf_files`). Apart from one thing speed does not depend on what a model has learnt: activations here
have no outliers, and the engine's int8 works longer on rows that have them.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from bench.gguf_files import MODEL_FILES, write_lora, write_model
from bench.make_experts import SETS, make_experts

WEIGHTS_STD = 0.02
"""What such a model is initialised with; activations stay near 1."""


@dataclass(frozen=True, slots=True)
class BaseShape:
    """Qwen3-0.6B, from its published config.json, unless told otherwise."""

    vocab_size: int = 151_936
    hidden: int = 1024
    intermediate: int = 3072
    layers: int = 28
    heads: int = 16
    kv_heads: int = 8
    head_dim: int = 128
    positions: int = 40_960


def config_of(shape: BaseShape, tokenizer: PreTrainedTokenizerBase) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.positions,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype="bfloat16",
        architectures=["Qwen3ForCausalLM"],
    )


def random_weights(config: Qwen3Config, seed: int) -> dict[str, Tensor]:
    """bf16, by transformers' names: matrices normal, norms 1; the head is the embedding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in Qwen3ForCausalLM(config).named_parameters()}
    weights = {}
    for name in sorted(shapes.keys() - {"lm_head.weight"}):
        if len(shapes[name]) == 1:
            weights[name] = torch.ones(shapes[name], dtype=torch.bfloat16)
        else:
            values = torch.empty(shapes[name]).normal_(0, WEIGHTS_STD, generator=generator)
            weights[name] = values.to(torch.bfloat16)
    return weights


def make_base(directory: Path, shape: BaseShape, seed: int, tokenizer_dir: Path) -> None:
    """The checkpoint alone. The tokenizer may have fewer ids than the base; the others mean nothing."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    if len(tokenizer) > shape.vocab_size:
        raise ValueError(f"{tokenizer_dir} has {len(tokenizer)} tokens, the base {shape.vocab_size} rows for them")
    directory.mkdir(parents=True, exist_ok=True)
    config = config_of(shape, tokenizer)
    save_file(random_weights(config, seed), directory / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(directory)
    GenerationConfig(eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def make_gguf(directory: Path) -> None:
    """What llama.cpp reads: the base at its quantizations, and the one set of experts that it can run."""
    for name, quantization in MODEL_FILES.items():
        write_model(directory, directory / "gguf" / name, quantization)
    for adapter in sorted((directory / "experts" / "ten_attention").iterdir()):
        write_lora(adapter, directory / "gguf" / "ten_attention" / f"{adapter.name}.gguf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=Path("models/nano"), help="directory with tokenizer.json")
    parser.add_argument("--seed", type=int, default=0)
    for field in fields(BaseShape):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=int, default=field.default)
    args = parser.parse_args()
    shape = BaseShape(**{field.name: getattr(args, field.name) for field in fields(BaseShape)})
    make_base(args.directory, shape, args.seed, args.tokenizer)
    print(f"{args.directory}: base", flush=True)
    make_experts(args.directory, args.seed)
    print(f"{args.directory}: experts {', '.join(SETS)}", flush=True)
    make_gguf(args.directory)
    print(f"{args.directory}: gguf {', '.join(MODEL_FILES)}")


if __name__ == "__main__":
    main()
