"""Logits of the plain model: against transformers and PEFT in fp32, quantized against its own dequantized weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from engine.config import EngineConfig
from engine.lowering import Lowering
from engine.model.config import read_config
from engine.model.kernels import DenseLinear
from engine.model.weights import load_transformer
from engine.plan import Row, StepPlan
from engine.runner import Runner
from tests.unit.engine.models import VOCAB, Reference, configs, load_reference

NAMES = list(configs())
SHAPES: dict[str, dict[str, Any]] = {
    "odd widths": {"hidden_size": 72, "intermediate_size": 100, "head_dim": 24, "num_attention_heads": 3},
    "many heads": {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10, "num_hidden_layers": 3},
    "untied": {"tie_word_embeddings": False, "vocab_size": 131, "rms_norm_eps": 1e-5, "rope_theta": 5e4},
}


def ids_of(length: int, seed: int, vocab: int = VOCAB) -> list[int]:
    return torch.randint(6, vocab, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def make_runner(base: Path, **settings: object) -> Runner:
    config = EngineConfig(**{"base": base, "quantization": "fp32", "num_slots": len(NAMES), **settings})  # type: ignore[arg-type]
    return Runner(config, load_transformer(config, read_config(base), kv_blocks=64))


def logits(runner: Runner, prompts: Sequence[Sequence[int]], slots: Sequence[int | None] = ()) -> Tensor:
    """Of each prompt's last token, fed in two chunks and then alone: all ways that a row may be computed."""
    cuts = [len(ids) // 2 for ids in prompts]
    for step in (0, 1):
        rows = []
        for index, (ids, cut) in enumerate(zip(prompts, cuts, strict=True)):
            begin, end = ((0, cut), (cut, len(ids) - 1))[step]
            rows.append(row(index, ids, begin, end, slots))
        runner.forward(StepPlan(tuple(rows), ()))
    last = [row(index, ids, len(ids) - 1, len(ids), slots) for index, ids in enumerate(prompts)]
    return runner.forward(StepPlan(tuple(last), ()))


def row(index: int, ids: Sequence[int], begin: int, end: int, slots: Sequence[int | None]) -> Row:
    slot = slots[index] if slots else None
    mixture = () if slot is None else ((slot, 1.0),)
    return Row(index, tuple(ids[begin:end]), begin, tuple(range(4 * index, 4 * index + 4)), mixture, samples=True)


def expected_logits(model: Qwen3ForCausalLM, prompts: Sequence[Sequence[int]]) -> Tensor:
    with torch.inference_mode():
        return torch.stack([model(torch.tensor([list(ids)])).logits[0, -1] for ids in prompts])


@pytest.mark.parametrize("name", SHAPES)
def test_logits_of_odd_shapes_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    torch.manual_seed(11)
    defaults: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
    }
    config = Qwen3Config(**{**defaults, **SHAPES[name]})
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    model = load_reference(tmp_path)
    prompts = [ids_of(length, length, config.vocab_size) for length in (4, 17, 40)]
    found = logits(make_runner(tmp_path), prompts)
    assert torch.allclose(found, expected_logits(model, prompts), atol=1e-4)


def virtual_ids(runner: Runner, slot: int, count: int) -> list[int]:
    return [runner.model.config.vocab_size + slot * runner.model.prompts.shape[1] + index for index in range(count)]


def test_logits_of_every_kind_in_one_batch_are_those_of_peft(base: Path, references: dict[str, Reference]) -> None:
    runner = make_runner(base)
    weights = {name: linear.kernel.dequantized() for name, linear in runner.model.linears.items()}
    shapes = {name: linear.shape for name, linear in runner.model.linears.items()}
    lowering = Lowering(shapes, weights.__getitem__, 64, 32, 32)
    prompts, expected = [], []
    for slot, name in enumerate(NAMES):
        delta = lowering.lower(references[name].adapter)
        runner.model.load_slot(slot, delta)
        ids = ids_of(9 + slot, slot)
        prompts.append(virtual_ids(runner, slot, delta.num_virtual) + ids)
        expected.append(references[name].logits(ids)[-1])
    slots = list(range(len(NAMES)))
    assert torch.allclose(logits(runner, prompts, slots), torch.stack(expected), atol=1e-4)
    for slot, ids in enumerate(prompts):
        assert torch.allclose(logits(runner, [ids], [slot])[0], expected[slot], atol=1e-4)


@pytest.mark.parametrize(
    ("quantization", "limit"),
    [("int8", 0.03), ("int4", 1e-5), ("nf4", 0.04)],
    ids=["rounding of activations", "order of sums", "bf16 activations"],
)
def test_quantized_logits_are_those_of_the_weights_that_are_really_served(
    base: Path, quantization: str, limit: float
) -> None:
    quantized, dense = make_runner(base, quantization=quantization), make_runner(base)
    for name, linear in quantized.model.linears.items():
        dense.model.linears[name].kernel = DenseLinear(linear.kernel.dequantized())
    dense.model.head = DenseLinear(quantized.model.head.dequantized())
    prompts = [ids_of(length, length) for length in (4, 17, 40)]
    found, expected = logits(quantized, prompts), logits(dense, prompts)
    assert ((found - expected).norm(dim=1) / expected.norm(dim=1)).max() < limit
