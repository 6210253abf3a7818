"""The random base is what its readers expect: our engine, transformers, PEFT's names and llama.cpp's files."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize
from safetensors.torch import load_file
from transformers import Qwen3ForCausalLM

from adapters_store.package import read_package
from bench.make_base import BaseShape, make_base
from bench.make_experts import SETS
from engine.config import EngineConfig
from engine.request import ExpertUse, GenerationRequest, SamplingParams, TokenLogprobs
from engine.service import Engine
from tests.unit.bench.conftest import ROOT, SHAPE

IDS = tuple(range(100, 124))


async def first_logprobs(engine: Engine, *experts: ExpertUse) -> TokenLogprobs:
    sampling = SamplingParams(max_tokens=1, logprobs=20, ignore_eos=True)
    generation = await engine.submit(GenerationRequest("test", IDS, experts, sampling))
    return next(logprobs for logprobs in [event.logprobs async for event in generation] if logprobs)


@pytest.fixture
def engine(random_base: Path) -> Engine:
    return Engine.load(EngineConfig(base=random_base, quantization="fp32", kv_blocks=32))


async def test_the_engine_and_transformers_compute_the_same_on_it(random_base: Path, engine: Engine) -> None:
    engine.start()
    found = await first_logprobs(engine)
    engine.stop()
    reference = Qwen3ForCausalLM.from_pretrained(random_base, dtype=torch.float32)
    with torch.inference_mode():
        expected = reference(torch.tensor([IDS])).logits[0, -1].log_softmax(-1)
    for token, logprob in found.top:
        assert logprob == pytest.approx(expected[token].item(), abs=1e-3)


async def test_every_expert_is_accepted_and_changes_the_answer(random_base: Path, engine: Engine) -> None:
    engine.start()
    plain = await first_logprobs(engine)
    for chosen, recipes in SETS.items():
        assert len(recipes) == 10
        for name in recipes:
            adapter = read_package(random_base / "experts" / chosen / name)
            assert await first_logprobs(engine, ExpertUse(adapter, 1.0)) != plain, (chosen, name)
    engine.stop()


def test_the_ten_are_the_kinds_that_the_engine_is_made_for() -> None:
    kinds = [recipe.kind for recipe in SETS["ten"].values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"ia3": 4, "dora": 4, "lokr": 1, "lora": 1}
    assert [recipe.virtual_tokens for recipe in SETS["ten"].values()] == [8] * 4 + [0] * 6


@pytest.mark.parametrize(
    ("file", "kind", "tolerance"),
    [
        ("base-q8_0.gguf", gguf.GGMLQuantizationType.Q8_0, 0.0005),
        ("base-q4_0.gguf", gguf.GGMLQuantizationType.Q4_0, 0.01),
    ],
)
def test_gguf_holds_the_same_weights_quantized(
    random_base: Path, file: str, kind: gguf.GGMLQuantizationType, tolerance: float
) -> None:
    reader = gguf.GGUFReader(random_base / "gguf" / file)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    weights = load_file(random_base / "model.safetensors")
    assert len(tensors) == len(weights) == 2 + 11 * SHAPE.layers
    for ours, theirs in (
        ("model.embed_tokens.weight", "token_embd.weight"),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight"),
        ("model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight"),
    ):
        values = weights[ours].float().numpy()
        assert tensors[theirs].tensor_type == kind
        assert tuple(reversed(tensors[theirs].shape.tolist())) == values.shape
        assert np.abs(dequantize(tensors[theirs].data, kind) - values).max() < tolerance
    assert tensors["blk.1.attn_q_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32


def test_gguf_says_the_shape_and_has_a_token_for_every_row(random_base: Path) -> None:
    fields = gguf.GGUFReader(random_base / "gguf" / "base-q8_0.gguf").fields
    found = {
        key: fields[f"qwen3.{key}"].contents() for key in ("block_count", "attention.key_length", "context_length")
    }
    assert found == {"block_count": 2, "attention.key_length": 32, "context_length": 512}
    assert len(fields["tokenizer.ggml.tokens"].contents()) == SHAPE.vocab_size
    assert fields["tokenizer.ggml.model"].contents() == "gpt2"


def test_a_gguf_lora_has_both_factors_of_every_attention_layer(random_base: Path) -> None:
    reader = gguf.GGUFReader(random_base / "gguf" / "ten_attention" / "lora-3.gguf")
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["adapter.type"].contents() == "lora"
    assert reader.fields["adapter.lora.alpha"].contents() == 32.0
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == 2 * 4 * SHAPE.layers
    source = load_file(random_base / "experts" / "ten_attention" / "lora-3" / "adapter_model.safetensors")
    for factor in "AB":
        expected = source[f"base_model.model.model.layers.1.self_attn.q_proj.lora_{factor}.weight"].half().numpy()
        assert np.array_equal(tensors[f"blk.1.attn_q.weight.lora_{factor.lower()}"].data, expected)


def test_the_same_seed_makes_the_same_base(random_base: Path, tmp_path: Path) -> None:
    make_base(tmp_path / "again", SHAPE, 0, ROOT / "models" / "nano")
    make_base(tmp_path / "other", SHAPE, 1, ROOT / "models" / "nano")
    made = [(path / "model.safetensors").read_bytes() for path in (random_base, tmp_path / "again", tmp_path / "other")]
    assert made[0] == made[1] != made[2]


def test_a_tokenizer_with_more_tokens_than_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has 2299 tokens, the base 97 rows"):
        make_base(tmp_path / "base", BaseShape(vocab_size=97), 0, ROOT / "models" / "nano")
