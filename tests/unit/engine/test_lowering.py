"""What the lowering does not know it refuses, by the name of the key or tensor."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from adapters_store.package import HostAdapter
from engine.errors import AdapterIncompatible
from engine.lowering import PREFIX, Lowering
from tests.unit.engine.models import Reference

Q = f"{PREFIX}layers.0.self_attn.q_proj"


@pytest.fixture
def lowering() -> Lowering:
    shapes = {}
    for layer in range(2):
        for name, shape in {
            "self_attn.q_proj": (64, 64),
            "self_attn.k_proj": (32, 64),
            "self_attn.v_proj": (32, 64),
            "self_attn.o_proj": (64, 64),
            "mlp.gate_proj": (96, 64),
            "mlp.up_proj": (96, 64),
            "mlp.down_proj": (64, 96),
        }.items():
            shapes[f"layers.{layer}.{name}"] = shape
    return Lowering(shapes, lambda name: torch.ones(shapes[name]), hidden=64, max_rank=16, max_virtual=8)


def configured(adapter: HostAdapter, **keys: Any) -> HostAdapter:
    return replace(adapter, config={**adapter.config, **keys})


def with_tensors(adapter: HostAdapter, change: Callable[[dict[str, torch.Tensor]], None]) -> HostAdapter:
    tensors = dict(adapter.tensors)
    change(tensors)
    return replace(adapter, tensors=tensors)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("modules_to_save", ["lm_head"]),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("alora_invocation_tokens", [5]),
        ("layer_replication", [[0, 2]]),
        ("trainable_token_indices", [3]),
        ("use_qalora", True),
        ("a_key_of_next_year", {"on": True}),
        ("rank_pattern", {r"layers\.[01]\.self_attn": 4}),
    ],
)
def test_a_configuration_with_another_meaning_is_refused_by_its_key(
    lowering: Lowering, references: dict[str, Reference], key: str, value: object
) -> None:
    adapter = configured(references["lora"].adapter, **{key: value})
    with pytest.raises(AdapterIncompatible, match=key):
        lowering.lower(adapter)


@pytest.mark.parametrize("kind", ["ADALORA", "LOHA", "PROMPT_TUNING", None, "lora"])
def test_an_unknown_kind_is_refused_by_name(
    lowering: Lowering, references: dict[str, Reference], kind: str | None
) -> None:
    with pytest.raises(AdapterIncompatible, match="peft_type"):
        lowering.lower(configured(references["lora"].adapter, peft_type=kind))


def test_a_dora_that_calls_itself_lora_is_refused(lowering: Lowering, references: dict[str, Reference]) -> None:
    with pytest.raises(AdapterIncompatible, match="magnitude_vector"):
        lowering.lower(configured(references["dora"].adapter, use_dora=False))


def test_a_lora_that_calls_itself_dora_is_refused(lowering: Lowering, references: dict[str, Reference]) -> None:
    with pytest.raises(AdapterIncompatible, match="lacks its tensor 'lora_magnitude_vector'"):
        lowering.lower(configured(references["lora"].adapter, use_dora=True))


@pytest.mark.parametrize(
    "name",
    [
        f"{PREFIX}embed_tokens.lora_embedding_A",
        "base_model.model.lm_head.lora_A.weight",
        f"{PREFIX}layers.9.self_attn.q_proj.lora_A.weight",
        f"{Q}.hada_w1_a",
        "q_proj.lora_A.weight",
    ],
)
def test_a_tensor_without_a_place_is_refused_by_name(
    lowering: Lowering, references: dict[str, Reference], name: str
) -> None:
    adapter = with_tensors(references["lora"].adapter, lambda tensors: tensors.update({name: torch.zeros(4, 64)}))
    with pytest.raises(AdapterIncompatible, match=name):
        lowering.lower(adapter)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(
    lowering: Lowering, references: dict[str, Reference], value: float
) -> None:
    adapter = with_tensors(
        references["lora"].adapter, lambda t: t.update({f"{Q}.lora_A.weight": torch.full((4, 64), value)})
    )
    with pytest.raises(AdapterIncompatible, match="not finite"):
        lowering.lower(adapter)


def test_a_wrong_shape_is_refused_with_both_shapes(lowering: Lowering, references: dict[str, Reference]) -> None:
    adapter = with_tensors(references["lora"].adapter, lambda t: t.update({f"{Q}.lora_B.weight": torch.zeros(63, 4)}))
    with pytest.raises(AdapterIncompatible, match=r"\[63, 4\].*\[64, 4\]"):
        lowering.lower(adapter)


def test_a_rank_above_the_limit_is_refused_with_the_limit(lowering: Lowering, references: dict[str, Reference]) -> None:
    lowering.max_rank = 3
    with pytest.raises(AdapterIncompatible, match="limit of 3"):
        lowering.lower(references["lora"].adapter)


def test_a_soft_prompt_of_another_width_or_length_is_refused(
    lowering: Lowering, references: dict[str, Reference]
) -> None:
    for prompt, fault in ((torch.zeros(5, 32), "needs"), (torch.zeros(9, 64), "limit is 8")):
        with pytest.raises(AdapterIncompatible, match=fault):
            lowering.lower(replace(references["ia3"].adapter, soft_prompt=prompt))


@pytest.mark.parametrize("key", ["r", "lora_alpha"])
@pytest.mark.parametrize("value", [None, "16", 0, True])
def test_a_setting_that_is_no_number_is_refused_by_its_key(
    lowering: Lowering, references: dict[str, Reference], key: str, value: object
) -> None:
    with pytest.raises(AdapterIncompatible, match=f"{key} of layers"):
        lowering.lower(configured(references["lora"].adapter, **{key: value}))


def test_a_pattern_by_a_layers_full_name_counts(lowering: Lowering, references: dict[str, Reference]) -> None:
    adapter = references["lora"].adapter
    plain = lowering.lower(adapter)
    raised = lowering.lower(configured(adapter, alpha_pattern={"model.layers.0.self_attn.q_proj": 80}))
    for layer, factor in (("layers.0.self_attn.q_proj", 10.0), ("layers.1.self_attn.q_proj", 1.0)):
        before, after = plain.linears[layer].b, raised.linears[layer].b
        assert before is not None and after is not None and torch.allclose(after, factor * before)


def test_an_adapter_that_lost_a_layer_is_refused(lowering: Lowering, references: dict[str, Reference]) -> None:
    def lose(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".layers.1.self_attn.k_proj." in name]:
            del tensors[name]

    with pytest.raises(AdapterIncompatible, match=r"layers\.1\.self_attn\.k_proj .* has no tensors"):
        lowering.lower(with_tensors(references["lora"].adapter, lose))


def test_another_methods_prefix_on_loras_names_is_refused(lowering: Lowering, references: dict[str, Reference]) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{Q}.ia3_A.weight"] = tensors.pop(f"{Q}.lora_A.weight")

    with pytest.raises(AdapterIncompatible, match=r"unexpected tensor 'ia3_A\.weight'|lacks its tensor"):
        lowering.lower(with_tensors(references["lora"].adapter, rename))


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("lora", {"lora_alpha": 10**400}, "lora_alpha of layers"),
        ("ia3", {"feedforward_modules": 5}, "feedforward_modules is 5"),
        ("ia3", {"feedforward_modules": [5]}, r"feedforward_modules is \[5\]"),
    ],
)
def test_a_malformed_configuration_is_refused_with_the_experts_name(
    lowering: Lowering, references: dict[str, Reference], name: str, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(AdapterIncompatible, match=f"'{name}' cannot be served: .*{fault}"):
        lowering.lower(configured(references[name].adapter, **change))


def test_a_factor_of_no_dimension_is_refused(lowering: Lowering, references: dict[str, Reference]) -> None:
    adapter = with_tensors(references["lora"].adapter, lambda t: t.update({f"{Q}.lora_A.weight": torch.tensor(1.0)}))
    with pytest.raises(AdapterIncompatible, match=r"A of layers.* has shape \[\]"):
        lowering.lower(adapter)


def test_a_kronecker_rank_that_adds_nothing_is_refused(lowering: Lowering, references: dict[str, Reference]) -> None:
    def raise_rank(tensors: dict[str, torch.Tensor]) -> None:
        tensors[f"{Q}.lokr_w1"] = torch.ones(8, 8)
        tensors[f"{Q}.lokr_w2_a"], tensors[f"{Q}.lokr_w2_b"] = torch.ones(8, 9), torch.ones(9, 8)

    adapter = configured(
        with_tensors(references["lokr"].adapter, raise_rank), rank_pattern={"layers.0.self_attn.q_proj": 9}
    )
    with pytest.raises(AdapterIncompatible, match=r"W2 .* has rank 9, of its shape 8 is the most"):
        lowering.lower(adapter)


@pytest.mark.parametrize(
    ("tensor", "shape", "fault"),
    [
        ("lokr_w1", (4, 5), r"\[64, 80\], the base needs \[64, 64\]"),
        ("lokr_w1", (4,), "not that of a matrix"),
        ("lokr_w2_a", (16, 3), "lokr_w2_a .* has rank 3"),
        ("lokr_w2_b", (5, 16), "lokr_w2_b .* has rank 5"),
        ("lokr_t2", (4, 4), "unexpected tensor 'lokr_t2'"),
        ("lokr_w2", (16, 16), "unexpected tensor 'lokr_w2_a'"),
    ],
)
def test_kronecker_factors_that_do_not_fit_are_refused(
    lowering: Lowering, references: dict[str, Reference], tensor: str, shape: tuple[int, ...], fault: str
) -> None:
    adapter = with_tensors(references["lokr"].adapter, lambda t: t.update({f"{Q}.{tensor}": torch.zeros(shape)}))
    with pytest.raises(AdapterIncompatible, match=fault):
        lowering.lower(adapter)


def test_kronecker_factors_larger_than_a_slot_are_refused(lowering: Lowering, references: dict[str, Reference]) -> None:
    def only_w1(tensors: dict[str, torch.Tensor]) -> None:
        for part in ("w1", "w2_a", "w2_b"):
            del tensors[f"{Q}.lokr_{part}"]
        tensors[f"{Q}.lokr_w1"] = torch.ones(64, 64)
        tensors[f"{Q}.lokr_w2"] = torch.ones(1, 1)

    with pytest.raises(AdapterIncompatible, match=r"W1 .* has 4096 values, a slot holds 64"):
        lowering.lower(with_tensors(references["lokr"].adapter, only_w1))
    lowering.max_rank = 0
    with pytest.raises(AdapterIncompatible, match=r"W2 .* takes the place of rank \d+, the limit is 0"):
        lowering.lower(references["lokr-whole"].adapter)
