"""Paged attention and the store into the cache against plain torch; the cache is NaN where nobody may look."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

pytest.importorskip("triton")

from engine.model.triton import SPLITS
from engine.model.triton.attention import LEAST, POSITIONS, paged_attention, write_cache

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# On a device these are part of what `-m gpu` runs.
pytestmark = [pytest.mark.gpu] if DEVICE == "cuda" else []
few = settings(max_examples=12, deadline=None)


def attention(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """One query [1, heads, head_dim] over keys and values [length, kv_heads, head_dim], in fp32 [heads, head_dim]."""
    q, k, v = (part.float().transpose(0, 1)[None] for part in (query, keys, values))
    return scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=True)[0, :, 0]


class Paged:
    """Rows of the given lengths in shuffled blocks of a cache that is NaN elsewhere, with the dense keys and values."""

    def __init__(
        self, lengths: list[int], block_size: int, kv_heads: int, head_dim: int, seed: int, dtype: torch.dtype
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        counts = [-(-length // block_size) for length in lengths]
        order = torch.randperm(sum(counts) + 3, generator=generator).tolist()
        # Behind a row's blocks, its table names one that does not exist: reading it would be an error.
        tables = torch.full((len(lengths), max(counts) + 2), 1 << 30, dtype=torch.int32)
        shape = (len(order), block_size, kv_heads, head_dim)
        self.keys, self.values = (torch.full(shape, torch.nan, dtype=dtype) for _ in range(2))
        self.dense: list[tuple[Tensor, Tensor]] = []
        for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            blocks = [order.pop() for _ in range(count)]
            tables[row, :count] = torch.tensor(blocks, dtype=torch.int32)
            pair = [torch.randn(length, kv_heads, head_dim, generator=generator).to(dtype) for _ in range(2)]
            for part, cache in zip(pair, (self.keys, self.values), strict=True):
                for position in range(length):
                    cache[blocks[position // block_size], position % block_size] = part[position]
            self.dense.append((pair[0].to(DEVICE), pair[1].to(DEVICE)))
        self.keys, self.values, self.tables = self.keys.to(DEVICE), self.values.to(DEVICE), tables.to(DEVICE)
        self.lengths = torch.tensor(lengths, dtype=torch.int32, device=DEVICE)

    def expected(self, query: Tensor, scale: float) -> Tensor:
        """In fp32 [rows, heads, head_dim]."""
        out = torch.zeros(query.shape, device=DEVICE)
        for row, (keys, values) in enumerate(self.dense):
            if len(keys):
                out[row] = attention(query[row][None], keys, values, scale)
        return out

    def quantized(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """int8 keys and values, and their scales, NaN where nothing lies; `dense` becomes what they stand for."""
        caches, scales = [], []
        for cache in (self.keys, self.values):
            scale = cache.float().abs().amax(-1) / 127
            rounded = (cache / scale[..., None]).round()
            cache.copy_(rounded * scale[..., None])
            caches.append(rounded.nan_to_num(99).to(torch.int8))
            scales.append(scale)
        for row, (keys, values) in enumerate(self.dense):
            places = torch.arange(len(keys), device=DEVICE)
            blocks, offsets = self.tables[row][places // self.keys.shape[1]].long(), places % self.keys.shape[1]
            keys.copy_(self.keys[blocks, offsets])
            values.copy_(self.values[blocks, offsets])
        return caches[0], caches[1], scales[0], scales[1]


@few
@given(
    lengths=st.lists(st.integers(0, 150), min_size=1, max_size=3),
    block_size=st.sampled_from([1, 3, 16]),
    kv_heads=st.integers(1, 2),
    group=st.sampled_from([1, 2, 5]),
    head_dim=st.sampled_from([8, 16, 20, 64]),
    seed=st.integers(0, 99),
)
def test_a_row_sees_its_own_positions_alone(
    lengths: list[int], block_size: int, kv_heads: int, group: int, head_dim: int, seed: int
) -> None:
    cache = Paged(lengths, block_size, kv_heads, head_dim, seed, torch.float32)
    query = torch.randn(len(lengths), kv_heads * group, head_dim, device=DEVICE)
    out = paged_attention(query, cache.keys, cache.values, cache.tables, cache.lengths, 0.3)
    torch.testing.assert_close(out, cache.expected(query, 0.3), atol=2e-5, rtol=1e-4)


@few
@given(lengths=st.lists(st.integers(0, 150), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_an_int8_cache_stands_for_its_integers_times_their_scales(lengths: list[int], seed: int) -> None:
    cache = Paged(lengths, 16, 2, 20, seed, torch.float32)
    keys, values, key_scales, value_scales = cache.quantized()
    query = torch.randn(len(lengths), 4, 20, device=DEVICE)
    out = paged_attention(query, keys, values, cache.tables, cache.lengths, 0.3, key_scales, value_scales)
    torch.testing.assert_close(out, cache.expected(query, 0.3), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [LEAST, LEAST + 1, 3 * LEAST - 1, SPLITS * LEAST, SPLITS * LEAST + POSITIONS + 1])
def test_the_parts_of_a_long_context_add_up(length: int) -> None:
    cache = Paged([length], 64, 1, 16, length, torch.float32)
    query = 5 * torch.randn(1, 2, 16, device=DEVICE)
    out = paged_attention(query, cache.keys, cache.values, cache.tables, cache.lengths, 0.25)
    torch.testing.assert_close(out, cache.expected(query, 0.25), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_fp32(dtype: torch.dtype) -> None:
    cache = Paged([0, 5, 300], 16, 2, 32, 1, dtype)
    query = torch.randn(3, 4, 32, device=DEVICE).to(dtype)
    out = paged_attention(query, cache.keys, cache.values, cache.tables, cache.lengths, 0.2)
    assert out.dtype is dtype
    torch.testing.assert_close(out.float(), cache.expected(query, 0.2), atol=0.01, rtol=0.01)


def test_rows_of_padding_give_zeros_and_read_nothing() -> None:
    keys = torch.full((1, 4, 2, 16), torch.nan, device=DEVICE)
    tables = torch.full((2, 3), 1 << 30, dtype=torch.int32, device=DEVICE)
    query = torch.randn(2, 4, 16, device=DEVICE)
    out = paged_attention(query, keys, keys, tables, torch.zeros(2, dtype=torch.int32, device=DEVICE), 1.0)
    assert torch.equal(out, torch.zeros_like(out))


def test_scores_far_from_zero_do_not_overflow() -> None:
    cache = Paged([200, 3], 16, 1, 16, 4, torch.float32)
    query = torch.stack([torch.full((2, 16), 300.0), torch.full((2, 16), -300.0)]).to(DEVICE)
    out = paged_attention(query, cache.keys, cache.values, cache.tables, cache.lengths, 1.0)
    torch.testing.assert_close(out, cache.expected(query, 1.0), atol=1e-4, rtol=1e-3)


def test_a_row_gets_the_same_bits_whatever_the_batch_and_the_width_of_its_table() -> None:
    cache = Paged([1, 333, 40], 16, 2, 16, 5, torch.float32)
    query = torch.randn(3, 4, 16, device=DEVICE)
    together = paged_attention(query, cache.keys, cache.values, cache.tables, cache.lengths, 0.3)
    for row in range(3):
        table = cache.tables[row : row + 1, : -(-len(cache.dense[row][0]) // 16)].contiguous()
        alone = paged_attention(
            query[row : row + 1], cache.keys, cache.values, table, cache.lengths[row : row + 1], 0.3
        )
        assert torch.equal(alone[0], together[row])


def test_a_length_beyond_the_table_ends_with_the_table() -> None:
    cache = Paged([32], 16, 1, 16, 6, torch.float32)
    query = torch.randn(1, 2, 16, device=DEVICE)
    table = cache.tables[:, :2].contiguous()
    wrong = torch.full((1,), 500, dtype=torch.int32, device=DEVICE)
    out = paged_attention(query, cache.keys, cache.values, table, wrong, 0.3)
    torch.testing.assert_close(out, cache.expected(query, 0.3), atol=2e-5, rtol=1e-4)


@few
@given(
    positions=st.lists(st.integers(0, 19), min_size=1, max_size=6, unique=True),
    skipped=st.integers(0, 5),
    kv_heads=st.integers(1, 3),
    head_dim=st.sampled_from([1, 8, 20, 64]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_new_keys_and_values_are_stored_at_their_positions_and_nowhere_else(
    positions: list[int], skipped: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> None:
    key_cache, value_cache = torch.zeros(2, 5, 4, kv_heads, head_dim, device=DEVICE, dtype=dtype)
    wanted = [cache.clone().flatten(0, 1) for cache in (key_cache, value_cache)]
    fused = torch.randn(len(positions), 2 * kv_heads, head_dim, device=DEVICE).to(dtype)
    keys, values = fused[:, :kv_heads], fused[:, kv_heads:]
    for token, position in enumerate(positions):
        if token == skipped:
            positions[token] = -1
            continue
        wanted[0][position], wanted[1][position] = keys[token], values[token]
    write_cache(keys, values, key_cache, value_cache, torch.tensor(positions, device=DEVICE))
    assert torch.equal(key_cache.flatten(0, 1), wanted[0]) and torch.equal(value_cache.flatten(0, 1), wanted[1])


@few
@given(seed=st.integers(0, 99), magnitude=st.sampled_from([0.0, 1e-30, 1e-4, 1.0, 1e4]))
def test_int8_is_within_half_a_step_for_each_position_and_head(seed: int, magnitude: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys, values = (torch.randn(3, 2, 20, generator=generator).to(DEVICE) * magnitude for _ in range(2))
    key_cache, value_cache = torch.full((2, 2, 4, 2, 20), 55, dtype=torch.int8, device=DEVICE)
    scales = torch.full((2, 2, 4, 2), 7.0, device=DEVICE)
    positions = torch.tensor([6, -1, 1], device=DEVICE)
    write_cache(keys, values, key_cache, value_cache, positions, scales[0], scales[1])
    for part, cache, scale in zip((keys, values), (key_cache, value_cache), scales, strict=True):
        stored, steps = cache.flatten(0, 1).float(), scale.flatten(0, 1)
        assert ((stored * steps[..., None])[[6, 1]] - part[[0, 2]]).abs().le(steps[[6, 1], :, None] * 0.501).all()
        assert (stored[[0, 2, 3, 4, 5, 7]] == 55).all() and (steps[[0, 2, 3, 4, 5, 7]] == 7).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
@pytest.mark.parametrize("part", ["key", "value"])
@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_what_is_not_finite_is_not_hidden(dtype: torch.dtype, part: str, fault: float) -> None:
    caches = torch.zeros(2, 2, 8, 1, 16, device=DEVICE).to(dtype)
    scales = torch.zeros(2, 2, 8, 1, device=DEVICE) if dtype == torch.int8 else [None, None]
    new = torch.randn(2, 11, 1, 16, device=DEVICE)
    new[int(part == "value"), 4, 0, 3] = fault
    write_cache(new[0], new[1], caches[0], caches[1], torch.arange(11, device=DEVICE), scales[0], scales[1])
    table = torch.tensor([[0, 1]], dtype=torch.int32, device=DEVICE)
    length = torch.tensor([11], dtype=torch.int32, device=DEVICE)
    query = torch.ones(1, 1, 16, device=DEVICE)
    out = paged_attention(query, caches[0], caches[1], table, length, 0.25, scales[0], scales[1])
    assert not out.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_what_was_stored_is_what_attention_sees(dtype: torch.dtype) -> None:
    caches = torch.zeros(2, 4, 8, 2, 16, device=DEVICE).to(dtype)
    scales = torch.full((2, 4, 8, 2), torch.nan, device=DEVICE) if dtype == torch.int8 else [None, None]
    table = torch.tensor([[2, 0]], dtype=torch.int32, device=DEVICE)
    keys, values = torch.randn(2, 11, 2, 16, device=DEVICE)
    positions = torch.tensor([16 + i if i < 8 else i - 8 for i in range(11)], device=DEVICE)
    write_cache(keys, values, caches[0], caches[1], positions, scales[0], scales[1])
    query = torch.randn(1, 4, 16, device=DEVICE)
    length = torch.tensor([11], dtype=torch.int32, device=DEVICE)
    out = paged_attention(query, caches[0], caches[1], table, length, 0.25, scales[0], scales[1])
    torch.testing.assert_close(
        out[0], attention(query, keys, values, 0.25), atol=0.03 if dtype == torch.int8 else 1e-5, rtol=0
    )
