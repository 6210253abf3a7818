"""The arithmetic of memory against the tensors that it speaks of, and what a budget decides."""

import json
import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from engine.budget import DEFAULT_KV_BYTES, Budget, budget_of, fitted
from engine.config import CPU_ONLY, QUANTIZATIONS, EngineConfig
from engine.errors import BudgetTooSmall
from engine.model.config import ModelConfig, read_config
from engine.model.delta import Delta, LinearDelta
from engine.model.weights import load_transformer
from engine.plan import Row, StepPlan
from engine.runner import Runner
from engine.service import Engine

ROOT = Path(__file__).resolve().parents[3]
NANO = ROOT / "models" / "nano"
QWEN = read_config(ROOT / "bench" / "shapes" / "Qwen3-0.6B")
MIB, GIB = 1 << 20, 1 << 30


def config_for(quantization: str, base: Path = NANO, **settings: Any) -> EngineConfig:
    device = "cpu" if quantization in CPU_ONLY else "cuda"
    return EngineConfig(**{"base": base, "device": device, "quantization": quantization, **settings})


def counted(budget: Budget) -> dict[str, int]:
    return {"base": budget.weights, "slots": budget.slots, "kv": budget.kv}


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_arithmetic_is_what_the_tensors_of_nano_take(quantization: str) -> None:
    config = config_for(quantization, device="cpu", num_slots=3, max_rank=9, max_virtual_tokens=5, kv_blocks=70)
    shape = read_config(NANO)
    config = fitted(config, shape)
    model = load_transformer(config, shape, config.kv_blocks)
    assert model.memory_bytes() == counted(budget_of(config, shape))


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_head_of_its_own_is_counted(base: Path, tmp_path: Path, quantization: str) -> None:
    """Here the embedding is stored in fp32 as well, so that other heads are copies than with nano."""
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    for is_tied in (True, False):
        raw = json.loads((base / "config.json").read_text()) | {"tie_word_embeddings": is_tied}
        (tmp_path / "config.json").write_text(json.dumps(raw))
        tensors = load_file(base / "model.safetensors")
        head = {} if is_tied else {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
        save_file({**tensors, **head}, tmp_path / "model.safetensors")
        shape = read_config(tmp_path)
        config = fitted(config_for(quantization, tmp_path, device="cpu", kv_blocks=9), shape)
        model = load_transformer(config, shape, config.kv_blocks)
        assert model.memory_bytes() == counted(budget_of(config, shape))


def storages(tree: object) -> list[torch.UntypedStorage]:
    """Of all tensors but oneDNN's packed weights, which show none."""
    tensors = [leaf for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor) and not leaf.is_mkldnn]
    return [tensor.untyped_storage() for tensor in tensors]


class LiveBytes(TorchDispatchMode):
    """The most bytes of new tensors that were alive at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live, self.peak = 0, 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        known = {storage.data_ptr() for storage in storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in storages(result):
            if storage.data_ptr() not in known:
                self._count(storage)
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._seen:
            return
        self._seen.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)

        def forget() -> None:
            self._seen.discard(address)
            self.live -= size

        weakref.finalize(storage, forget)


def full_delta(shape: ModelConfig, rank: int) -> Delta:
    """All that a slot may hold, on all layers."""
    linears = {
        f"layers.{index}.{name}": LinearDelta(
            a=torch.zeros(rank, inner), b=torch.zeros(rank, out), g=torch.zeros(out), c=torch.zeros(inner)
        )
        for index in range(shape.num_layers)
        for name, (out, inner) in shape.linear_shapes.items()
    }
    return Delta("full", "full", linears)


FUSED = [(quantization, "fused") for quantization in QUANTIZATIONS]


@pytest.mark.parametrize(("quantization", "kernels"), [*FUSED, ("int8", "plain"), ("int4", "plain")])
@pytest.mark.parametrize("is_decoding", [True, False])
def test_a_full_step_stays_within_its_estimate(quantization: str, kernels: str, is_decoding: bool) -> None:
    """A step of decoding rows at their longest context, and one of a prompt's last chunk. The outputs of operators are
    counted, what operators take for themselves is not."""
    shape = read_config(NANO)
    config = config_for(quantization, device="cpu", kernels=kernels, num_slots=2, kv_blocks=64, max_batch=8)
    config = fitted(config, shape)
    model = load_transformer(config, shape, config.kv_blocks)
    for slot in range(config.num_slots):
        model.load_slot(slot, full_delta(shape, config.max_rank))
    runner = Runner(config, model)
    count, num_rows = (1, config.max_batch) if is_decoding else (config.max_step_tokens, 1)
    start = config.max_context - count
    row = Row(0, (7,) * count, start, tuple(range(config.kv_blocks)), ((0, 0.5), (1, 0.5)), True)
    with LiveBytes() as memory:
        runner.forward(StepPlan(rows=(row,) * num_rows, uploads=()))
    estimate = budget_of(config, shape).step
    assert memory.peak <= estimate and memory.live == 0
    assert is_decoding or memory.peak > estimate / 4


def test_without_a_budget_the_cache_of_a_large_base_stays_within_its_default() -> None:
    """Twice as many positions in the fused kernels' bf16 as in fp32."""
    config = fitted(config_for("int8"), QWEN)
    assert config.max_context % 16 == 0 and 18_000 < config.max_context < 20_000
    config = fitted(config_for("int8", kernels="plain"), QWEN)
    assert config.max_context % 16 == 0 and 9_000 < config.max_context < 10_000
    assert budget_of(config, QWEN).kv <= DEFAULT_KV_BYTES


def test_without_a_budget_a_small_base_gets_a_full_batch_of_full_contexts() -> None:
    config = fitted(config_for("int8", max_batch=5), read_config(NANO))
    assert (config.max_context, config.kv_blocks) == (1024, 5 * 1024 // 16)


def test_the_cache_gets_what_the_budget_leaves() -> None:
    config = fitted(config_for("nf4", memory_bytes=24 * GIB), QWEN)
    budget = budget_of(config, QWEN)
    assert config.max_context == 40_960
    assert 0 <= budget.free < budget.kv_block
    more = budget_of(fitted(config_for("nf4", memory_bytes=25 * GIB), QWEN), QWEN)
    assert more.kv_tokens - budget.kv_tokens == pytest.approx(GIB / (budget.kv_block / 16), abs=16)


def test_a_budget_is_not_spent_on_a_cache_that_nobody_could_fill() -> None:
    config = fitted(config_for("nf4", memory_bytes=24 * GIB), read_config(NANO))
    assert config.kv_blocks == config.max_batch * 1024 // 16
    assert budget_of(config, read_config(NANO)).free > 20 * GIB


def test_a_budget_too_small_is_refused_with_what_is_needed_before_anything_is_read(base: Path) -> None:
    with pytest.raises(BudgetTooSmall) as refused:
        Engine.load(EngineConfig(base=base, quantization="fp32", memory_bytes=MIB))
    needed = refused.value.needed
    assert f"budget of 1.0 MiB is too small: at least {needed / MIB:,.1f} MiB are needed" in str(refused.value)
    assert "for weights" in str(refused.value) and "for 10 slots" in str(refused.value)


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_bytes is -1"):
        config_for("nf4", memory_bytes=-1)


def test_blocks_for_less_than_a_context_are_refused() -> None:
    with pytest.raises(ValueError, match="3 KV blocks of 16 hold less than one context of 64"):
        fitted(config_for("nf4", kv_blocks=3, max_context=64), QWEN)


@given(
    memory=st.integers(1, 64 * GIB),
    quantization=st.sampled_from(QUANTIZATIONS),
    slots=st.integers(1, 64),
    batch=st.integers(1, 64),
    context=st.sampled_from([0, 100, 4096, 99_999]),
)
def test_a_budget_is_kept_or_refused_and_what_a_refusal_asks_for_is_enough(
    memory: int, quantization: str, slots: int, batch: int, context: int
) -> None:
    config = config_for(quantization, memory_bytes=memory, num_slots=slots, max_batch=batch, max_context=context)
    try:
        found = fitted(config, QWEN)
    except BudgetTooSmall as refused:
        assert refused.needed > memory
        found = fitted(replace(config, memory_bytes=refused.needed), QWEN)
        assert budget_of(found, QWEN).total <= refused.needed
        return
    budget = budget_of(found, QWEN)
    assert budget.total <= memory and budget.num_contexts >= 1
    assert found.max_context == min(context, QWEN.max_positions) or not context


def parts_of(model: ModelConfig, change: Callable[[EngineConfig], EngineConfig]) -> Budget:
    return budget_of(change(config_for("nf4", kv_blocks=8, max_context=64)), model)


def test_a_tied_head_in_the_dtype_of_the_embedding_takes_nothing() -> None:
    budget = parts_of(QWEN, lambda config: config)
    assert budget.head == 0 and budget.embedding == 151_936 * 1024 * 2
    assert parts_of(replace(QWEN, embedding_itemsize=4), lambda config: config).head == 151_936 * 1024 * 2


def test_figures_of_qwen3_that_can_be_checked_by_hand() -> None:
    """28 layers of 15,728,640 values; NF4 takes half a byte, a byte of scale per 64 and four bytes per 64 * 256."""
    values = 28 * (2 * 1024 * 2048 + 2 * 1024 * 1024 + 3 * 1024 * 3072)
    budget = parts_of(QWEN, lambda config: config)
    assert budget.linears == values // 2 + values // 64 + 4 * values // (64 * 256)
    assert budget.kv_block == 16 * 28 * 2 * 8 * 128 * 2
    fp32 = parts_of(QWEN, lambda config: replace(config, quantization="fp32"))
    integers = 28 * 7 * 3 * 4  # what each slot says on each layer, whatever the weights are
    assert (fp32.linears, fp32.kv_block) == (4 * values, 2 * budget.kv_block)
    assert fp32.slot - integers == 2 * (budget.slot - integers)
