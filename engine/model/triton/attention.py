"""Decode attention over the paged cache: one new token in each row, and the store of new keys and values.

`_attend` takes a part of a row's context and one key head with the query heads that share it, with the running softmax
of FlashAttention (Dao et al. 2022); `_combine` weighs the parts (Flash-Decoding, Dao et al. 2023). The parts follow
from the row's own length, so that neither the batch nor the table's width changes a bit of its result.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.triton import SPLITS

POSITIONS = 64
"""Cached positions that a program looks at together."""
LEAST = 128
"""Positions that are worth a part."""


def paged_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    block_tables: Tensor,
    lengths: Tensor,
    scale: float,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
) -> Tensor:
    """softmax(scale * query keys^T) values for query [rows, heads, head_dim] -> the same shape and dtype.

    `keys` and `values` are [blocks, block_size, kv_heads, head_dim], int8 with `key_scales` and `value_scales` in fp32
    [blocks, block_size, kv_heads], else any float. Row r sees its first `lengths[r]` positions, those of the blocks
    `block_tables[r]` in their order, and nothing else is read; both are int32. A row of length 0 gives zeros.
    """
    rows, heads, head_dim = query.shape
    _, block_size, kv_heads, _ = keys.shape
    assert query.stride(2) == 1 and keys.is_contiguous() and values.is_contiguous() and block_tables.stride(1) == 1
    assert (keys.dtype == torch.int8) == (key_scales is not None) == (value_scales is not None)
    out = torch.empty(rows, heads, head_dim, dtype=query.dtype, device=query.device)
    if rows == 0:
        return out
    width = max(16, triton.next_power_of_2(head_dim))
    partial = torch.empty(rows, heads, SPLITS, head_dim, dtype=torch.float32, device=query.device)
    peaks, sums = torch.empty(2, rows, heads, SPLITS, dtype=torch.float32, device=query.device)
    _attend[(rows, kv_heads, SPLITS)](
        query, keys, values, key_scales, value_scales, block_tables, lengths, partial, peaks, sums,
        scale, query.stride(0), query.stride(1), block_tables.stride(0), block_tables.shape[1],
        HEADS=heads, KV_HEADS=kv_heads, HEAD_DIM=head_dim, WIDTH=width, BLOCK_SIZE=block_size,
        GROUP=max(16, triton.next_power_of_2(heads // kv_heads)), QUANTIZED=key_scales is not None,
        OPERAND=_operand(query.dtype), SPLITS=SPLITS, POSITIONS=POSITIONS, LEAST=LEAST,
    )  # fmt: skip
    _combine[(rows, heads)](
        out, lengths, partial, peaks, sums, block_tables.shape[1] * block_size,
        HEADS=heads, HEAD_DIM=head_dim, WIDTH=width, SPLITS=SPLITS, POSITIONS=POSITIONS, LEAST=LEAST,
    )  # fmt: skip
    return out


def write_cache(
    keys: Tensor,
    values: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    positions: Tensor,
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
) -> None:
    """Store keys and values [tokens, kv_heads, head_dim] at `positions` [tokens], counted through the blocks.

    The cache and its scales are as in `paged_attention`; an int8 cache gets one scale for each position and head, the
    largest magnitude over 127. A position of -1 stores nothing. Two tokens may not share a position.
    """
    tokens, kv_heads, head_dim = keys.shape
    assert keys.stride(2) == 1 and values.stride(2) == 1 and key_cache.is_contiguous() and value_cache.is_contiguous()
    if tokens:
        _write[(tokens, kv_heads)](
            keys, values, key_cache, value_cache, key_scales, value_scales, positions,
            keys.stride(0), keys.stride(1), values.stride(0), values.stride(1),
            KV_HEADS=kv_heads, HEAD_DIM=head_dim, WIDTH=triton.next_power_of_2(head_dim),
            QUANTIZED=key_scales is not None,
        )  # fmt: skip


def _operand(dtype: torch.dtype) -> tl.dtype:
    """What the matrix products multiply; the interpreter has no product of bf16."""
    if dtype == torch.float16:
        return tl.float16
    return tl.bfloat16 if dtype == torch.bfloat16 and not triton.knobs.runtime.interpret else tl.float32


@triton.jit
def _part(length: tl.tensor, SPLITS: tl.constexpr, POSITIONS: tl.constexpr, LEAST: tl.constexpr) -> tl.tensor:
    """Positions of each part of a context."""
    return tl.maximum(tl.cdiv(tl.cdiv(length, SPLITS), POSITIONS) * POSITIONS, LEAST)


@triton.jit
def _attend(
    query: tl.tensor, keys: tl.tensor, values: tl.tensor, key_scales: tl.tensor, value_scales: tl.tensor,
    block_tables: tl.tensor, lengths: tl.tensor, partial: tl.tensor, peaks: tl.tensor, sums: tl.tensor,
    scale: float, row_stride: int, head_stride: int, table_stride: int, table_width: int,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, GROUP: tl.constexpr, QUANTIZED: tl.constexpr, OPERAND: tl.constexpr,
    SPLITS: tl.constexpr, POSITIONS: tl.constexpr, LEAST: tl.constexpr,
) -> None:  # fmt: skip
    """One part of one row's context under one key head: its unscaled sum, the peak of its scores and their sum."""
    row, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    length = tl.minimum(tl.load(lengths + row), table_width * BLOCK_SIZE)
    part = _part(length, SPLITS, POSITIONS, LEAST)
    begin = split * part
    end = tl.minimum(begin + part, length)
    if begin < end:
        group, lanes = tl.arange(0, GROUP), tl.arange(0, WIDTH)
        heads = kv_head * (HEADS // KV_HEADS) + group
        asked = (group < HEADS // KV_HEADS)[:, None] & (lanes < HEAD_DIM)[None, :]
        q = tl.load(query + row * row_stride + heads[:, None] * head_stride + lanes[None, :], mask=asked, other=0)
        q = q.to(OPERAND)
        peak = tl.full([GROUP], float("-inf"), tl.float32)
        total = tl.zeros([GROUP], tl.float32)
        mixed = tl.zeros([GROUP, WIDTH], tl.float32)
        for start in range(begin, end, POSITIONS):
            positions = start + tl.arange(0, POSITIONS)
            seen = positions < end
            block = tl.load(block_tables + row * table_stride + positions // BLOCK_SIZE, mask=seen, other=0)
            places = (block.to(tl.int64) * BLOCK_SIZE + positions % BLOCK_SIZE) * KV_HEADS + kv_head
            inside = seen[:, None] & (lanes < HEAD_DIM)[None, :]
            tile = places[:, None] * HEAD_DIM + lanes[None, :]
            key = tl.load(keys + tile, mask=inside, other=0).to(OPERAND)
            scores = tl.dot(q, tl.trans(key), input_precision="ieee") * scale
            if QUANTIZED:
                scores *= tl.load(key_scales + places, mask=seen, other=0)[None, :]
            scores = tl.where(seen[None, :], scores, float("-inf"))
            higher = tl.maximum(peak, tl.max(scores, 1))
            kept, weights = tl.exp(peak - higher), tl.exp(scores - higher[:, None])
            total = total * kept + tl.sum(weights, 1)
            if QUANTIZED:
                weights *= tl.load(value_scales + places, mask=seen, other=0)[None, :]
            value = tl.load(values + tile, mask=inside, other=0).to(OPERAND)
            mixed = mixed * kept[:, None] + tl.dot(weights.to(OPERAND), value, input_precision="ieee")
            peak = higher
        place = (row * HEADS + heads) * SPLITS + split
        tl.store(partial + place[:, None] * HEAD_DIM + lanes[None, :], mixed, mask=asked)
        tl.store(peaks + place, peak, mask=group < HEADS // KV_HEADS)
        tl.store(sums + place, total, mask=group < HEADS // KV_HEADS)


@triton.jit
def _combine(
    out: tl.tensor, lengths: tl.tensor, partial: tl.tensor, peaks: tl.tensor, sums: tl.tensor, capacity: int,
    HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
    SPLITS: tl.constexpr, POSITIONS: tl.constexpr, LEAST: tl.constexpr,
) -> None:  # fmt: skip
    """The parts of one row and query head, each weighted by its share of the softmax."""
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    length = tl.minimum(tl.load(lengths + row), capacity)
    lanes, splits = tl.arange(0, WIDTH), tl.arange(0, SPLITS)
    place = row * HEADS + head
    live = splits * _part(length, SPLITS, POSITIONS, LEAST) < length
    peak = tl.load(peaks + place * SPLITS + splits, mask=live, other=float("-inf"))
    # Without a part all peaks are -inf, and their difference would be NaN.
    share = tl.where(live, tl.exp(peak - tl.where(length > 0, tl.max(peak, 0), 0.0)), 0.0)
    total = tl.sum(share * tl.load(sums + place * SPLITS + splits, mask=live, other=0), 0)
    inside = live[:, None] & (lanes < HEAD_DIM)[None, :]
    tile = (place * SPLITS + splits)[:, None] * HEAD_DIM + lanes[None, :]
    mixed = tl.sum(share[:, None] * tl.load(partial + tile, mask=inside, other=0), 0)
    mixed = mixed / tl.where(length > 0, total, 1.0)
    tl.store(out + place * HEAD_DIM + lanes, mixed.to(out.dtype.element_ty), mask=lanes < HEAD_DIM)


@triton.jit
def _store(
    source: tl.tensor, cache: tl.tensor, scales: tl.tensor, place: tl.tensor, HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr, QUANTIZED: tl.constexpr,
) -> None:  # fmt: skip
    """One head of one token into the cache; `place` counts positions and heads."""
    lanes = tl.arange(0, WIDTH)
    row = tl.load(source + lanes, mask=lanes < HEAD_DIM, other=0).to(tl.float32)
    if QUANTIZED:
        # A maximum passes over NaN; the sum is 0, or NaN where a value is not finite.
        scale = tl.max(tl.abs(row), 0) / 127 + tl.sum(row * 0, 0)
        tl.store(scales + place, scale)
        # Halves away from zero: casts cut off the fraction.
        steps = tl.where(scale > 0, row, 0.0) / tl.where(scale > 0, scale, 1.0)
        row = tl.clamp(steps + tl.where(steps < 0, -0.5, 0.5), -127.0, 127.0)
    tl.store(cache + place * HEAD_DIM + lanes, row.to(cache.dtype.element_ty), mask=lanes < HEAD_DIM)


@triton.jit
def _write(
    keys: tl.tensor, values: tl.tensor, key_cache: tl.tensor, value_cache: tl.tensor, key_scales: tl.tensor,
    value_scales: tl.tensor, positions: tl.tensor, key_stride: int, key_head_stride: int,
    value_stride: int, value_head_stride: int, KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr, QUANTIZED: tl.constexpr,
) -> None:  # fmt: skip
    """One head of one token, its key and its value."""
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    position = tl.load(positions + token).to(tl.int64)
    if position >= 0:
        place = position * KV_HEADS + head
        key, value = keys + token * key_stride + head * key_head_stride, values + token * value_stride
        value += head * value_head_stride
        _store(key, key_cache, key_scales, place, HEAD_DIM, WIDTH, QUANTIZED)
        _store(value, value_cache, value_scales, place, HEAD_DIM, WIDTH, QUANTIZED)
