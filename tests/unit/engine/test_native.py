"""The CPU's fused kernels against the plain model, and that a row depends on nothing but itself."""

import ctypes
import random
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.config import EngineConfig
from engine.model.config import ModelConfig, fused_kind, read_config
from engine.model.delta import AdaptedLinear, Delta, LinearDelta, Mixtures
from engine.model.four_bit import Int4Linear
from engine.model.kernels import Int8Linear
from engine.model.layers import KVCache, StepContext, StepInputs, attend, rms_norm
from engine.model.native import (
    NativeCache,
    NativeLinear,
    NativeTransformer,
    describe_mixtures,
    describe_rows,
)
from engine.model.native_library import PLAIN, CHeads, CInput, Group, Kernels, check_structs, library
from engine.model.native_weights import NativeInt4, NativeInt8, native_weight
from engine.model.rope import Rotary, rotate
from engine.model.rope_config import RopeConfig
from engine.model.transformer import Transformer
from engine.model.weights import load_transformer
from engine.runner import padded
from tests.unit.engine.models import save_base

pytestmark = pytest.mark.skipif(library() is None, reason="needs a CPU with AVX-512 VNNI and the built kernels")

VOCAB, BLOCK, BLOCKS = 112, 16, 64
Mixture = tuple[tuple[int, float], ...]
CONFIG = ModelConfig(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=96,
    num_layers=1,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    max_positions=128,
    rope=RopeConfig(theta=10_000.0),
    norm_eps=1e-6,
    tied_embeddings=True,
    eos_ids=frozenset(),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One row of a step."""

    ids: Sequence[int]
    start: int
    table: Sequence[int]
    mixture: Mixture


def step(parts: Sequence[Part]) -> StepInputs:
    """Every row is sampled at its last token."""
    begins = (0, *accumulate(len(part.ids) for part in parts))
    counts = torch.tensor([len(part.ids) for part in parts])
    return StepInputs(
        ids=torch.tensor([token for part in parts for token in part.ids]),
        positions=torch.tensor([part.start + place for part in parts for place in range(len(part.ids))]),
        begins=begins,
        starts=tuple(part.start for part in parts),
        tables=torch.tensor(padded([part.table for part in parts], 0), dtype=torch.int32),
        sampled=torch.tensor(begins[1:]) - 1,
        mixtures=mix([part.mixture for part in parts], counts),
    )


def mix(mixtures: Sequence[Mixture], counts: Tensor | None = None) -> Mixtures:
    counts = torch.ones(len(mixtures), dtype=torch.long) if counts is None else counts
    slots = torch.tensor(padded([[slot for slot, _ in mixture] for mixture in mixtures], -1), dtype=torch.int32)
    shares = torch.tensor(padded([[weight for _, weight in mixture] for mixture in mixtures], 0.0))
    present = tuple(sorted({slot for mixture in mixtures for slot, _ in mixture}))
    return Mixtures(
        slots.view(len(mixtures), -1).repeat_interleave(counts, 0),
        shares.view(len(mixtures), -1).repeat_interleave(counts, 0),
        present,
    )


def some(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * 0.2


def parts_of(generator: torch.Generator, out: int, inner: int) -> list[LinearDelta]:
    """One of each kind: LoRA, DoRA, IA3 of both forms, LoKr."""
    return [
        LinearDelta(a=some(generator, 7, inner), b=some(generator, 7, out)),
        LinearDelta(a=some(generator, 4, inner), b=some(generator, 4, out), g=some(generator, out)),
        LinearDelta(g=some(generator, out)),
        LinearDelta(c=some(generator, inner)),
        LinearDelta(a=some(generator, 5, inner // 2), b=some(generator, 5, out // 4), k=some(generator, 4, 2)),
    ]


MIXTURES: list[Mixture] = [(), ((0, 1.0),), ((1, 1.0),), ((2, 0.5),), ((3, 1.0),), ((4, 1.0),)]
MIXTURES += [((0, 0.5), (1, -0.25), (2, 1.0), (3, 0.75), (4, 0.125))]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40), out=st.integers(1, 9), inner=st.integers(1, 9), seed=st.integers(0, 99), peak=st.booleans()
)
def test_the_product_is_bit_for_bit_that_of_the_plain_kernel(
    rows: int, out: int, inner: int, seed: int, peak: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, x = some(generator, 16 * out, 16 * inner), some(generator, rows, 16 * inner)
    if peak:
        x[rows // 2, 3] = 300
    plain, packed = Int8Linear(weight), NativeInt8(weight)
    assert torch.equal(packed(x), plain(x))
    assert torch.equal(packed.dequantized(), plain.dequantized())


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40), out=st.integers(1, 9), inner=st.integers(1, 5), seed=st.integers(0, 99), peak=st.booleans()
)
def test_the_product_of_four_bits_is_that_of_the_weights_it_gives_back(
    rows: int, out: int, inner: int, seed: int, peak: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, x = some(generator, 16 * out, 32 * inner), some(generator, rows, 32 * inner)
    if peak:
        x[rows // 2, 3] = 300
    packed = NativeInt4(weight)
    dense = packed.dequantized()
    found, expected = packed(x), x @ dense.t()
    room = x.abs().amax(1, keepdim=True) / 254 * dense.abs().sum(1)  # half a step of each activation
    assert ((found - expected).abs() <= room + 1e-4).all()
    if peak:
        assert (found - expected)[rows // 2].abs().max() < 0.05
    alone = torch.cat([packed(row[None]) for row in x])
    assert torch.equal(alone, found)


@settings(max_examples=25, deadline=None)
@given(
    out=st.integers(1, 9),
    inner=st.integers(1, 5),
    seed=st.integers(0, 99),
    magnitude=st.sampled_from([1e-30, 1e-3, 1.0, 1e20]),
    zeros=st.booleans(),
)
def test_four_bits_are_chosen_as_well_as_by_the_plain_kernel(
    out: int, inner: int, seed: int, magnitude: float, zeros: bool
) -> None:
    """Of two scales that are equally good by all but rounding, either may be taken."""
    weight = some(torch.Generator().manual_seed(seed), 16 * out, 32 * inner)
    if zeros:
        weight[3], weight[5, :32], weight[7, 1:32] = 0, 0, 0
    native, plain = NativeInt4(weight * magnitude), Int4Linear(weight * magnitude)
    assert native.num_bytes == plain.num_bytes == 16 * out * (17 * inner + 4)
    missed, expected = (
        (kernel.dequantized() / magnitude - weight).unflatten(1, (-1, 32)).square().sum(2) for kernel in (native, plain)
    )
    assert torch.allclose(missed, expected, rtol=1e-3, atol=1e-9)
    assert expected.sum() < 0.01 * weight.square().sum()


@settings(max_examples=25, deadline=None)
@given(
    quantization=st.sampled_from(["int8", "int4"]),
    chosen=st.lists(st.sampled_from(MIXTURES), min_size=1, max_size=20),
    out=st.integers(1, 20),
    inner=st.integers(1, 8),
    seed=st.integers(0, 99),
    unused=st.booleans(),
)
def test_a_layer_with_experts_gives_what_the_plain_one_gives(
    quantization: str, chosen: list[Mixture], out: int, inner: int, seed: int, unused: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (16 * out, (16 if quantization == "int8" else 32) * inner)
    layer = NativeLinear(native_weight(some(generator, *shape), quantization), 6, 8, torch.empty(0))
    for slot, part in enumerate(parts_of(generator, *shape)):
        layer.load(slot, part)
    if unused:
        layer.load(5, LinearDelta(a=torch.full((8, shape[1]), torch.inf), b=torch.full((8, shape[0]), torch.nan)))
    x, mixtures = some(generator, len(chosen), shape[1]), mix(chosen)
    expected = AdaptedLinear.__call__(layer, x, mixtures)
    kernels, residual = Kernels(), some(generator, len(chosen), shape[0])
    given_input, described = CInput(x.data_ptr(), None, 0, PLAIN), describe_mixtures(mixtures)
    added = residual.clone()
    found = kernels.linears(Group([layer.described]), given_input, len(chosen), described, add=added)[0]
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(added, residual + found)
    for index, mixture in enumerate(chosen):
        alone, one = x[index : index + 1].contiguous(), describe_mixtures(mix([mixture]))
        single = kernels.linears(Group([layer.described]), CInput(alone.data_ptr(), None, 0, PLAIN), 1, one)[0]
        assert torch.equal(single[0], found[index])


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 20)), min_size=1, max_size=4),
    group=st.integers(1, 8),
    dim=st.integers(1, 5),
    block_size=st.sampled_from([16, 32]),
    int8=st.booleans(),
    seed=st.integers(0, 99),
)
@example(lengths=[(0, 1), (40, 1), (70, 1), (1, 4)], group=7, dim=5, block_size=16, int8=True, seed=21)
def test_attention_is_that_of_the_plain_model(
    lengths: list[tuple[int, int]], group: int, dim: int, block_size: int, int8: bool, seed: int
) -> None:
    generator, kv_heads, dim = torch.Generator().manual_seed(seed), 2, 16 * dim
    config = replace(CONFIG, num_heads=group * kv_heads, num_kv_heads=kv_heads, head_dim=dim)
    rotary = Rotary(config.rope, dim, 128, torch.device("cpu"))
    gains = 1 + some(generator, 2, dim)
    fused = NativeCache(BLOCKS * block_size, config, int8)
    plain = KVCache(BLOCKS * block_size, kv_heads, dim, torch.empty(0, dtype=torch.bfloat16), int8)
    blocks = torch.randperm(BLOCKS, generator=generator).view(4, -1).tolist()
    heads = CHeads(gains[0].data_ptr(), gains[1].data_ptr(), 1e-6, dim**-0.5, group * 2, 2, dim, block_size)
    kernels = Kernels()
    past = [Part(range(start), 0, blocks[row], ()) for row, (start, _) in enumerate(lengths) if start]
    now = [Part(range(fed), start, blocks[row], ()) for row, (start, fed) in enumerate(lengths)]
    for parts in filter(None, (past, now)):
        inputs = step(parts)
        tokens = len(inputs.ids)
        query, key, value = (some(generator, tokens, n, dim) for n in (group * 2, 2, 2))
        context = StepContext.of(inputs, rotary, block_size)
        turned_query = rotate(rms_norm(query, gains[0], 1e-6), context.cos, context.sin)
        turned_key = rotate(rms_norm(key, gains[1], 1e-6), context.cos, context.sin)
        expected = attend(turned_query, turned_key, value, plain, context)
        found, rows = torch.empty_like(query), describe_rows(inputs, rotary)
        kernels.lib.hs_attend(
            kernels.space, heads, rows, fused.described, *(part.data_ptr() for part in (query, key, value, found))
        )
        # What lies on the edge between two integers may fall to either side, a 127th of its vector's peak apart.
        assert torch.allclose(found, expected, atol=1e-2 if int8 else 2e-3)


@dataclass(frozen=True, slots=True)
class Pair:
    native: NativeTransformer
    plain: Transformer


@pytest.fixture(scope="module")
def native_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("native"), VOCAB)


def load(base: Path, **settings: object) -> Transformer:
    config = EngineConfig(**{"base": base, "num_slots": 5, "max_rank": 8, **settings})  # type: ignore[arg-type]
    return load_transformer(config, read_config(base), BLOCKS)


def fill(model: Transformer) -> Transformer:
    generator = torch.Generator().manual_seed(5)
    deltas: list[dict[str, LinearDelta]] = [{} for _ in range(5)]
    for name, linear in model.linears.items():
        for slot, part in enumerate(parts_of(generator, *linear.shape)):
            deltas[slot][name] = part
    for slot, linears in enumerate(deltas):
        prompt = some(generator, 3, model.config.hidden_size) if slot == 2 else None
        model.load_slot(slot, Delta(str(slot), str(slot), linears, prompt))
    return model


@pytest.fixture(params=["int8", "int4"])
def pair(native_base: Path, request: pytest.FixtureRequest) -> Pair:
    fused = fill(load(native_base, quantization=request.param))
    plain = fill(load(native_base, quantization=request.param, kernels="plain"))
    assert isinstance(fused, NativeTransformer) and type(plain) is Transformer
    return Pair(fused, plain)


def rows(seed: int = 1) -> list[Part]:
    rng = random.Random(seed)
    lengths = [37, 20, 5, 1, 64, 13, 33]
    return [
        Part([rng.randrange(VOCAB) for _ in range(n)], 0, range(8 * i, 8 * i + 8), MIXTURES[i])
        for i, n in enumerate(lengths)
    ]


@torch.inference_mode()
def test_the_fused_model_answers_as_the_plain_one(pair: Pair) -> None:
    """To the rounding of the adapters and of the cache to bf16, which 64 channels do not even out."""
    parts = rows()
    for inputs in (step(parts), step([Part([7], len(part.ids), part.table, part.mixture) for part in parts])):
        found, expected = pair.native.forward(inputs), pair.plain.forward(inputs)
        error = (found - expected).norm(dim=1) / expected.norm(dim=1)
        assert error.max() < 0.1, error


@torch.inference_mode()
def test_a_virtual_token_is_the_slots_own(pair: Pair) -> None:
    virtual = VOCAB + 2 * pair.native.prompts.shape[1]
    inputs = step([Part([virtual, virtual + 1, virtual + 2, 9], 0, [1], ((2, 1.0),))])
    found, expected = pair.native.forward(inputs)[0], pair.plain.forward(inputs)[0]
    assert (found - expected).norm() < 0.1 * expected.norm()


@torch.inference_mode()
def test_a_row_is_bit_for_bit_the_same_alone_chunked_decoded_and_with_other_threads(pair: Pair) -> None:
    model, parts = pair.native, rows()
    together = model.forward(step(parts))
    for index, part in enumerate(parts):
        for cuts in ([], [len(part.ids) // 3], [len(part.ids) - 1], list(range(1, len(part.ids)))):
            model.kernels = Kernels(threads=1 + len(cuts) % 3)
            bounds = [0, *(cut for cut in cuts if 0 < cut < len(part.ids)), len(part.ids)]
            for begin, end in pairwise(bounds):
                found = model.forward(step([Part(part.ids[begin:end], begin, part.table, part.mixture)]))
            assert torch.equal(found[0], together[index]), (index, cuts)


@torch.inference_mode()
def test_threads_that_come_late_take_nothing_twice_and_leave_nothing_out(pair: Pair) -> None:
    """More threads than cores: most of them are away at any time, and some come back in the middle of a later pass."""
    model, inputs = pair.native, step(rows())
    model.kernels = Kernels(threads=1)
    expected = model.forward(inputs)
    model.kernels = Kernels(threads=12)
    for _ in range(60):
        assert torch.equal(model.forward(inputs), expected)


@torch.inference_mode()
def test_what_lies_in_the_cache_beyond_a_row_does_not_matter(pair: Pair) -> None:
    model, part = pair.native, rows()[0]
    expected = model.forward(step([part]))
    for layer in model.layers:
        layer.cache.keys.fill_(torch.nan)
        layer.cache.values.fill_(torch.inf)
    assert torch.equal(model.forward(step([part])), expected)


@torch.inference_mode()
def test_a_row_that_is_not_finite_says_so_and_disturbs_nobody(pair: Pair) -> None:
    model, parts = pair.native, rows()
    expected = model.forward(step(parts))
    layer = model.layers[0].linears["self_attn.q_proj"]
    layer.load(0, LinearDelta(a=torch.full((4, layer.shape[1]), 3e38), b=torch.full((4, layer.shape[0]), 3e38)))
    found = model.forward(step(parts))
    for index, part in enumerate(parts):
        if any(slot == 0 for slot, _ in part.mixture):
            assert not found[index].isfinite().any()
        else:
            assert torch.equal(found[index], expected[index])


@torch.inference_mode()
@pytest.mark.parametrize("kernels", ["fused", "plain"])
def test_an_int8_cache_is_near_a_full_one(native_base: Path, kernels: str) -> None:
    full, small = (fill(load(native_base, kernels=kernels, kv_dtype=dtype)) for dtype in ("auto", "int8"))
    assert small.memory_bytes()["kv"] < full.memory_bytes()["kv"]
    parts = rows()
    for inputs in (step(parts), step([Part([7], len(part.ids), part.table, part.mixture) for part in parts])):
        found, expected = small.forward(inputs), full.forward(inputs)
        assert ((found - expected).norm(dim=1) / expected.norm(dim=1)).max() < 0.1


@torch.inference_mode()
@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
@pytest.mark.parametrize("name", ["k_proj", "v_proj"])
def test_one_position_that_is_not_finite_is_seen_by_its_row_alone(native_base: Path, name: str, kv_dtype: str) -> None:
    """Written by the model itself: the expert overflows for one token of a row's prompt."""
    model, parts = fill(load(native_base, kv_dtype=kv_dtype)), rows()
    model.prompts[3] = 0
    layer = model.layers[0].linears[f"self_attn.{name}"]
    huge = LinearDelta(a=torch.full((4, layer.shape[1]), 3e38), b=torch.full((4, layer.shape[0]), 3e38))
    poisoned = next(part for part in parts if part.mixture == () and len(part.ids) > 16)
    layer.load(0, huge)
    model.forward(step([Part(part.ids, 0, part.table, ()) for part in parts]))
    middle = Part(poisoned.ids[9:10], 9, poisoned.table, ((0, 1.0),))
    model.forward(step([middle]))
    later = [Part([7], len(part.ids), part.table, ()) for part in parts]
    for found, part in zip(model.forward(step(later)), parts, strict=True):
        assert found.isfinite().all() == (part is not poisoned)


def test_shapes_that_the_kernels_are_not_made_for_are_served_by_the_plain_model(base: Path) -> None:
    assert type(load(base)) is Transformer
    assert type(load(base, quantization="fp32")) is Transformer


def test_four_bits_want_whole_groups_of_inputs() -> None:
    narrow = replace(CONFIG, intermediate_size=80)
    for quantization, expected in (("int8", "native"), ("int4", None)):
        assert fused_kind(EngineConfig(base=Path(), quantization=quantization), narrow) == expected
        assert fused_kind(EngineConfig(base=Path(), quantization=quantization), CONFIG) == "native"


def test_a_library_of_other_sources_is_refused_by_its_name(tmp_path: Path) -> None:
    source = tmp_path / "old.c"
    source.write_text("#include <stdint.h>\nconst int32_t hs_struct_sizes[8] = {8, 8, 8, 8, 8, 8, 8, 8};\n")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "old.so"), str(source)], check=True)
    with pytest.raises(RuntimeError, match=r"old\.so was built from other sources"):
        check_structs(tmp_path / "old.so", ctypes.CDLL(str(tmp_path / "old.so")))
