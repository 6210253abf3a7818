"""The arithmetic of an adapter's values against PEFT, which makes it on a model of the shape without weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import IA3Config, LoKrConfig, LoraConfig, get_peft_model
from transformers import Qwen3Config, Qwen3ForCausalLM

from adapters_store.package import read_package
from engine.expert_size import ExpertShape, num_values, shape_of
from engine.model.config import ModelConfig, read_config
from tests.unit.engine.models import ATTENTION, MLP, PeftConfig
from training.experts import EXPERTS

ROOT = Path(__file__).resolve().parents[3]
NANO = read_config(ROOT / "models" / "nano")
QWEN = read_config(ROOT / "bench" / "shapes" / "Qwen3-0.6B")


def counted_by_peft(config: PeftConfig, shape: ModelConfig) -> int:
    empty = Qwen3Config(
        vocab_size=8,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=1,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
    )
    with torch.device("meta"):
        model = get_peft_model(Qwen3ForCausalLM(empty), config)
    return shape.num_layers * sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("shape", [NANO, QWEN], ids=["nano", "qwen3"])
@pytest.mark.parametrize("name", EXPERTS)
def test_the_recipes_have_as_many_values_as_peft_makes(name: str, shape: ModelConfig) -> None:
    spec = EXPERTS[name]
    expected = counted_by_peft(spec.config(), shape) + spec.virtual_tokens * shape.hidden_size
    assert num_values(shape_of(spec.config().to_dict(), spec.virtual_tokens), shape) == expected


@pytest.mark.parametrize("name", EXPERTS)
def test_an_expert_on_disk_has_the_values_that_its_configuration_promises(name: str) -> None:
    adapter = read_package(ROOT / "adapters_store" / "experts" / name)
    held = sum(tensor.numel() for tensor in adapter.tensors.values())
    held += 0 if adapter.soft_prompt is None else adapter.soft_prompt.numel()
    tokens = adapter.manifest.soft_prompt.tokens if adapter.manifest.soft_prompt else 0
    assert num_values(shape_of(adapter.config, tokens), NANO) == held


@given(rank=st.integers(1, 300), factor=st.sampled_from([-1, 1, 3, 5, 7, 8, 48]), both=st.booleans())
def test_lokr_is_split_as_peft_splits_it(rank: int, factor: int, both: bool) -> None:
    config = LoKrConfig(r=rank, decompose_factor=factor, decompose_both=both, target_modules=ATTENTION + MLP)
    assert num_values(shape_of(config.to_dict()), NANO) == counted_by_peft(config, NANO)


def test_feedforward_modules_scale_their_input() -> None:
    config = IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"])
    expected = 28 * (2048 + 3072)
    assert num_values(shape_of(config.to_dict()), QWEN) == expected == counted_by_peft(config, QWEN)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern is"),
        ({"layers_to_transform": [0]}, "layers_to_transform is"),
        ({"target_modules": "all-linear"}, "target_modules is 'all-linear'"),
        ({"peft_type": "VERA"}, "peft_type 'VERA'"),
        ({"r": 0}, "r is 0"),
        ({"r": None}, "r is None"),
    ],
)
def test_what_the_arithmetic_does_not_cover_is_refused_by_its_key(change: dict[str, Any], fault: str) -> None:
    config: Any = LoraConfig(target_modules=["q_proj"])
    with pytest.raises(ValueError, match=fault):
        shape_of(config.to_dict() | change)


def test_an_adapter_for_other_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="its targets fc1 are no linear layers"):
        num_values(ExpertShape("lora", ("fc1",), 8), QWEN)


def test_a_label_says_what_it_is() -> None:
    assert ExpertShape("dora", ("q_proj",), 16).label == "DoRA r=16"
    assert ExpertShape("lokr", ("q_proj",), 16, factor=8).label == "LoKr r=16 factor 8"
    assert ExpertShape("ia3", ("k_proj",), virtual_tokens=8).label == "IA3 + 8 virtual tokens"
