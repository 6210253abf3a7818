"""The GPU's transformer against the plain one, through Triton's interpreter: every kind, recorded or at once."""

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

pytest.importorskip("triton")

from engine.budget import budget_of
from engine.config import EngineConfig
from engine.model.config import fused_kind, read_config
from engine.model.cuda import TritonLinear, TritonTransformer, attend_prompt
from engine.model.cuda_graphs import Recording
from engine.model.delta import AdaptedLinear, Delta, LinearDelta, Mixtures
from engine.model.kernels import DenseLinear
from engine.model.layers import StepInputs
from engine.model.transformer import Transformer
from engine.model.weights import load_transformer
from engine.plan import Row, StepPlan
from engine.runner import Runner, padded
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask
from tests.unit.engine.models import VOCAB, Reference, configs
from tests.unit.engine.test_parity import prompts

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are compiled then, and need a CUDA device")

BLOCK, BLOCKS, SLOTS, VIRTUAL = 4, 40, 7, 2
Mixture = tuple[tuple[int, float], ...]
BASE: Mixture = ()


def config_for(base: Path, **settings: object) -> EngineConfig:
    small = {"num_slots": SLOTS, "max_rank": 8, "max_virtual_tokens": VIRTUAL, "block_size": BLOCK, "max_batch": 8}
    return EngineConfig(**{"base": base, "quantization": "fp32", "max_context": 64, **small, **settings})  # type: ignore[arg-type]


def load(base: Path, **settings: object) -> Transformer:
    config = config_for(base, **settings)
    return load_transformer(config, read_config(base), BLOCKS)


def some(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * 0.15


def parts_of(generator: torch.Generator, out: int, inner: int) -> list[LinearDelta | None]:
    """LoRA, DoRA, IA3 of both forms, LoKr, a LoKr that the kernels have no room for, and nothing."""
    return [
        LinearDelta(a=some(generator, 7, inner), b=some(generator, 7, out)),
        LinearDelta(a=some(generator, 4, inner), b=some(generator, 4, out), g=some(generator, out)),
        LinearDelta(g=some(generator, out)),
        LinearDelta(c=some(generator, inner)),
        LinearDelta(a=some(generator, 5, inner // 2), b=some(generator, 5, out // 4), k=some(generator, 4, 2)),
        LinearDelta(a=some(generator, 5, inner // 16), b=some(generator, 5, out // 2), k=some(generator, 2, 16)),
        None,
    ]


def deltas_for(model: Transformer, seed: int = 5) -> list[Delta]:
    generator = torch.Generator().manual_seed(seed)
    linears: list[dict[str, LinearDelta]] = [{} for _ in range(SLOTS)]
    for name, linear in model.linears.items():
        for slot, part in enumerate(parts_of(generator, *linear.shape)):
            if part is not None:
                linears[slot][name] = part
    prompt = some(generator, VIRTUAL, model.config.hidden_size)
    return [Delta(str(slot), str(slot), part, prompt if slot == 2 else None) for slot, part in enumerate(linears)]


def fill(model: Transformer, seed: int = 5) -> None:
    for slot, delta in enumerate(deltas_for(model, seed)):
        model.load_slot(slot, delta)


def step(rows: Sequence[tuple[Sequence[int], int, Sequence[int], Mixture]], sampled: Sequence[int] = ()) -> StepInputs:
    """Rows of (ids, position of the first, blocks, mixture); all are sampled at their last token unless told."""
    begins = (0, *accumulate(len(ids) for ids, *_ in rows))
    counts = torch.tensor([len(ids) for ids, *_ in rows])
    slots = torch.tensor(padded([[slot for slot, _ in mixture] for *_, mixture in rows], -1), dtype=torch.int32)
    weights = torch.tensor(padded([[weight for _, weight in mixture] for *_, mixture in rows], 0.0))
    return StepInputs(
        ids=torch.tensor([token for ids, *_ in rows for token in ids]),
        positions=torch.tensor([start + place for ids, start, *_ in rows for place in range(len(ids))]),
        begins=begins,
        starts=tuple(start for _, start, *_ in rows),
        tables=torch.tensor(padded([table for _, _, table, _ in rows], 0), dtype=torch.int32),
        sampled=torch.tensor(sampled or begins[1:]) - (0 if sampled else 1),
        mixtures=Mixtures(
            slots.view(len(rows), -1).repeat_interleave(counts, 0),
            weights.view(len(rows), -1).repeat_interleave(counts, 0),
            tuple(sorted({slot for *_, mixture in rows for slot, _ in mixture})),
        ),
    )


FEW: list[Mixture] = [((1, 0.5),), BASE, ((4, 1.0), (2, 0.75))]
"""What recorded steps may hold."""
ALL: list[Mixture] = [*FEW, ((0, 1.0),), ((3, 0.75), (6, 1.0)), ((5, 1.0), (1, 0.5))]
Story = list[tuple[Sequence[int], int, Sequence[int], Mixture]]


def story(mixtures: Sequence[Mixture], seed: int = 1) -> list[Story]:
    """A prompt for each mixture, in two steps of which the second also decodes, and a step that only decodes."""
    rng = random.Random(seed)
    lengths = [rng.choice([3, 4]) for _ in mixtures]
    ids = [[rng.randrange(VOCAB) for _ in range(length + 2)] for length in lengths]
    for row, mixture in enumerate(mixtures):
        if 2 in dict(mixture):
            ids[row][:VIRTUAL] = range(VOCAB + 2 * VIRTUAL, VOCAB + 3 * VIRTUAL)
    tables = [[row + len(mixtures) * block for block in range(5)] for row in range(len(mixtures))]

    def rows(spans: Sequence[tuple[int, int]]) -> Story:
        return [
            (ids[row][begin:end], begin, tables[row], mixtures[row])
            for row, (begin, end) in enumerate(spans)
            if begin < end
        ]

    half = [(0, length - (row % 2) * 2) for row, length in enumerate(lengths)]
    rest = [(end, length + 1) for (_, end), length in zip(half, lengths, strict=True)]
    return [rows(half), rows(rest), rows([(length + 1, length + 2) for length in lengths])]


def run_again(run: Callable[[], Tensor]) -> Recording:
    """What a graph does, without one."""
    result = run()

    def replay() -> None:
        result.copy_(run())

    return Recording(replay, result)


def recorded(model: TritonTransformer, base: Path, **settings: object) -> TritonTransformer:
    model.record(config_for(base, **{"num_slots": 2, "max_batch": 4, **settings}), run_again)
    return model


@pytest.fixture
def fused(base: Path) -> TritonTransformer:
    model = load(base, kernels="triton")
    assert isinstance(model, TritonTransformer)
    fill(model)
    return model


@pytest.fixture
def plain(base: Path) -> Transformer:
    model = load(base, kernels="plain")
    assert type(model) is Transformer
    fill(model)
    return model


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=2e-3)


@torch.inference_mode()
def test_every_kind_in_one_batch_of_prompts_and_answers_is_what_the_plain_model_gives(
    fused: TritonTransformer, plain: Transformer
) -> None:
    for rows in story(ALL)[:2]:
        assert_close(fused.forward(step(rows)), plain.forward(step(rows)))


@pytest.mark.slow  # Triton's interpreter takes 16 seconds for it
@torch.inference_mode()
def test_recorded_steps_give_the_same_see_a_hot_swap_and_pad_into_the_scratch_block_alone(
    fused: TritonTransformer, plain: Transformer, base: Path
) -> None:
    """Three rows are padded to four. Later another adapter of another kind comes into each slot."""
    recorded(fused, base)
    for layer in fused.layers:
        assert len(layer.cache.keys) == (BLOCKS + 1) * BLOCK
        layer.cache.keys[-BLOCK:], layer.cache.values[-BLOCK:] = torch.nan, torch.nan
    for rows in story(FEW):
        assert_close(fused.forward(step(rows)), plain.forward(step(rows)))
    for layer, reference in zip(fused.layers, plain.layers, strict=True):
        assert_close(layer.cache.keys[:-BLOCK], reference.cache.keys)
        assert_close(layer.cache.values[:-BLOCK], reference.cache.values)
    addresses = [part.data_ptr() for linear in fused.linears.values() for part in (linear.a, linear.b, linear.g)]
    for model in (fused, plain):
        for slot, delta in enumerate(deltas_for(model, 6)[:5]):
            model.load_slot((slot + 1) % 5, delta)
    assert_close(fused.forward(step(rows, sampled=[0, 2])), plain.forward(step(rows))[[0, 2]])
    assert addresses == [
        part.data_ptr() for linear in fused.linears.values() for part in (linear.a, linear.b, linear.g)
    ]


@torch.inference_mode()
def test_a_step_of_the_base_alone_is_recorded_without_adapters(
    fused: TritonTransformer, plain: Transformer, base: Path
) -> None:
    recorded(fused, base, num_slots=1, max_batch=2)
    for rows in story([BASE] * 2):
        assert_close(fused.forward(step(rows)), plain.forward(step(rows)))


@torch.inference_mode()
def test_bf16_is_as_near_to_fp32_as_in_the_plain_model(base: Path, plain: Transformer) -> None:
    half, reference = (load(base, kernels=kernels, quantization="bf16") for kernels in ("triton", "plain"))
    for model in (half, reference):
        fill(model)
    for rows in story(FEW[:2]):
        found, near, full = (model.forward(step(rows)) for model in (half, reference, plain))
        assert (found - full).norm() < 1.3 * (near - full).norm() < 0.1 * full.norm()


@torch.inference_mode()
def test_a_recorded_step_never_takes_a_slot_that_the_kernels_have_no_room_for(
    fused: TritonTransformer, plain: Transformer, base: Path
) -> None:
    recorded(fused, base, num_slots=1, max_batch=2)
    assert fused.wide == {5}
    for rows in story([((5, 0.5),), ((0, 1.0),)]):
        assert_close(fused.forward(step(rows)), plain.forward(step(rows)))
    fused.load_slot(5, Delta("none", "none", {}))
    assert not fused.wide


@torch.inference_mode()
def test_an_int8_cache_is_near_the_full_one_and_nearer_the_plain_models(
    base: Path, fused: TritonTransformer, plain: Transformer
) -> None:
    """Both round to the same scales; only halves may fall to the other side."""
    small, reference = (load(base, kernels=kernels, kv_dtype="int8") for kernels in ("triton", "plain"))
    assert isinstance(small, TritonTransformer)
    for model in (small, reference):
        fill(model)
    for rows in story(FEW[:2]):
        found, near, full = (model.forward(step(rows)) for model in (small, reference, plain))
        assert ((found - full).norm(dim=1) / full.norm(dim=1)).max() < 0.1
        assert ((found - near).norm(dim=1) / near.norm(dim=1)).max() < 0.02
    assert small.memory_bytes()["kv"] < fused.memory_bytes()["kv"]


@torch.inference_mode()
def test_what_a_slot_held_before_leaves_nothing_behind() -> None:
    """Every kind after every other, on one layer."""
    generator = torch.Generator().manual_seed(0)
    weight = some(generator, 48, 64)
    layer = TritonLinear(DenseLinear(weight), (48, 64), 1, 8, weight)
    fresh = AdaptedLinear(DenseLinear(weight), (48, 64), 1, 8, weight, torch.float32)
    x = torch.randn(2, 64, generator=generator)
    mixtures = Mixtures(torch.zeros(2, 1, dtype=torch.int32), torch.tensor([[1.0], [0.5]]), (0,))
    kinds = parts_of(generator, 48, 64)
    for first in kinds:
        for second in kinds:
            for part in (first, second):
                layer.load(0, part)
            fresh.load(0, second)
            assert_close(layer(x, mixtures), fresh(x, mixtures))


@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
def test_the_arithmetic_of_the_budget_is_what_the_tensors_take(base: Path, kv_dtype: str) -> None:
    config = config_for(base, kernels="triton", kv_dtype=kv_dtype, kv_blocks=BLOCKS)
    shape = read_config(base)
    budget = budget_of(config, shape)
    counted = {"base": budget.weights, "slots": budget.slots, "kv": budget.kv}
    assert load_transformer(config, shape, BLOCKS).memory_bytes() == counted
    assert budget.kv == budget.kv_block * (BLOCKS + 1) and budget.kv_tokens == BLOCKS * BLOCK


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"device": "cuda", "quantization": "nf4"}, "triton"),
        ({"device": "cuda:0", "quantization": "bf16"}, "triton"),
        ({"device": "cuda:1", "quantization": "bf16"}, None),
        ({"device": "cuda", "quantization": "bf16", "kernels": "plain"}, None),
        ({"device": "cpu", "quantization": "bf16"}, None),
        ({"device": "cpu", "quantization": "bf16", "kernels": "triton"}, "triton"),
        ({"device": "cpu", "quantization": "int8", "kernels": "triton"}, None),
        ({"device": "cpu", "quantization": "int8", "block_size": 16}, None),
    ],
)
def test_the_device_and_the_weights_choose_the_kernels(
    base: Path, settings: dict[str, object], kind: str | None
) -> None:
    """The small base has a vocabulary that the CPU's kernels do not take."""
    assert fused_kind(config_for(base, **settings), read_config(base)) == kind


def test_prompts_attend_as_with_groups_of_heads() -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(n, heads, 16, generator=generator) for n, heads in ((5, 6), (9, 2), (9, 2)))
    mask = torch.ones(5, 9, dtype=torch.bool).tril(4)
    q, k, v = (part.transpose(0, 1)[None] for part in (query, keys, values))
    wanted = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert_close(attend_prompt(query, keys, values, mask), wanted[0].transpose(0, 1))


@pytest.mark.parametrize("names", [["dora", "lokr"], pytest.param(list(configs()), marks=pytest.mark.slow)])
async def test_an_engine_of_these_kernels_answers_as_peft_does(
    make_engine: MakeEngine, references: dict[str, Reference], names: list[str]
) -> None:
    """Two slots for all kinds, chunks of ten tokens, three rows."""
    engine = make_engine(kernels="triton", num_slots=2, max_rank=8, max_step_tokens=10, max_batch=3)
    uses = [(references[name], 1.0) for name in names]
    asks = list(zip(prompts(len(names), longest=5), uses, strict=True))
    answers = await asyncio.gather(*(ask(engine, ids, [use], max_tokens=3) for ids, use in asks))
    for (ids, (reference, _)), answer in zip(asks, answers, strict=True):
        assert answer.ids == reference.greedy(ids, 3)
        assert answer.timings and answer.timings.swap_ms > 0


def test_a_runner_hands_over_a_step_on_the_host(base: Path, fused: TritonTransformer, plain: Transformer) -> None:
    rows = (
        Row(1, (9, 10, 11), 0, (3,), ((0, 1.0),), True),
        Row(2, (12,), 0, (4,), (), True),
    )
    plan = StepPlan(rows, ())
    found, wanted = (Runner(config_for(base), model).forward(plan) for model in (fused, plain))
    assert_close(found, wanted)
