"""What the adapters of each token add to a linear layer: gathered from the slots, in two kernels.

    y = (1 + sum w g) * y + sum w (K (x) B A) x

over the slots s of a token, with weights w. A plain low-rank part is the case K = [[1]], so that LoRA, DoRA and LoKr
share the kernels. `_shrink` multiplies x by A, `_expand` sums over K and B; in between lies `hidden`, in fp32.
The sum over `in` is always cut at the same places, whatever the batch, so a token's result depends on itself alone.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from engine.model.triton import CHUNK, RANK_BLOCK

TILE = 128
"""Outputs that one program sums."""


def rank_blocks(rank: int, right: int = 1) -> int:
    """The room in `hidden` that a slot needs: blocks of its rank, for each of the `right` columns of its K."""
    return right * -(-rank // RANK_BLOCK)


def low_rank(
    y: Tensor,
    x: Tensor,
    a: Tensor,
    b: Tensor,
    k: Tensor,
    shapes: Tensor,
    token_slots: Tensor,
    token_weights: Tensor,
    blocks: int,
    g: Tensor | None = None,
) -> None:
    """Scale y [tokens, out] by 1 + sum w g and add sum w (K (x) B A) x to it, in place; x is [tokens, in].

    Of slot s, `shapes[s]` holds (l, m, rank) in int32; a[s] begins with A [rank, in / m], b[s] with B [rank, out / l]
    and k[s] with K [l, m], without gaps; a plain low-rank part has l = m = 1 and k[s, 0] = 1, a slot without one has
    rank 0. What lies behind them is never read. g [slots, out] is zero where a slot does not scale.
    `token_slots` int32 [tokens, experts] names the slots of a token, -1 for none, and `token_weights` fp32 their
    weights; nothing is read of a slot whose weight is 0. `blocks` is the largest `rank_blocks` of any slot: what is
    beyond it is left out, so a loader has to refuse it.
    """
    tokens, experts = token_slots.shape
    if tokens == 0 or experts == 0:
        return
    assert x.stride(1) == 1 and y.stride(1) == 1 and token_slots.is_contiguous() and token_weights.is_contiguous()
    assert all(part.is_contiguous() for part in (a, b, k, shapes) if part is not None)
    inner, out = x.shape[1], y.shape[1]
    chunk = min(CHUNK, triton.next_power_of_2(inner))
    parts = triton.cdiv(inner, chunk)
    hidden = torch.empty(tokens * experts, parts, blocks * RANK_BLOCK, dtype=torch.float32, device=x.device)
    _shrink[(tokens * experts, parts, blocks)](
        x, a, shapes, token_slots, token_weights, hidden,
        experts, inner, blocks, x.stride(0), a[0].numel(), CHUNK=chunk, RANK_BLOCK=RANK_BLOCK,
    )  # fmt: skip
    _expand[(tokens, triton.cdiv(out, TILE))](
        y, b, k, g, shapes, token_slots, token_weights, hidden,
        experts, inner, out, blocks, y.stride(0), b[0].numel(), k.shape[1],
        SCALES=g is not None, PARTS=triton.next_power_of_2(parts), CHUNK=chunk, RANK_BLOCK=RANK_BLOCK, TILE=TILE,
    )  # fmt: skip


def diagonal(y: Tensor, g: Tensor, token_slots: Tensor, token_weights: Tensor, out: Tensor | None = None) -> Tensor:
    """(1 + sum w g) * y of y [tokens, width] and g [slots, width]; in place, or into `out`. Slots as in `low_rank`."""
    out = y if out is None else out
    tokens, width = y.shape
    assert y.stride(1) == 1 and out.stride(1) == 1 and g.is_contiguous()
    if tokens:
        _diagonal[(tokens, triton.cdiv(width, TILE))](
            out, y, g, token_slots, token_weights, token_slots.shape[1], width, y.stride(0), out.stride(0), TILE=TILE
        )
    return out


@triton.jit
def _matrix(
    begin: tl.tensor, rows: tl.tensor, num_rows: tl.tensor, stride: tl.tensor, places: tl.tensor, inside: tl.tensor
) -> tl.tensor:
    """A tile in fp32. Callers have two branches for its sake: where the stride is an argument, loads can be wide."""
    tile = begin + rows[:, None] * stride + places[None, :]
    return tl.load(tile, mask=(rows < num_rows)[:, None] & inside[None, :], other=0).to(tl.float32)


@triton.jit(do_not_specialize=["experts", "blocks"])
def _shrink(
    x: tl.tensor, a: tl.tensor, shapes: tl.tensor, token_slots: tl.tensor, token_weights: tl.tensor,
    hidden: tl.tensor, experts: int, inner: int, blocks: int, x_stride: int, a_stride: int,
    CHUNK: tl.constexpr, RANK_BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """hidden [tokens * experts, parts, blocks, RANK_BLOCK]: A times row `block // rank blocks` of x as [m, in / m]."""
    pair, part, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot = tl.load(token_slots + pair)
    used = (slot >= 0) & (tl.load(token_weights + pair) != 0)
    right = tl.load(shapes + slot * 3 + 1, mask=used, other=1)
    rank = tl.load(shapes + slot * 3 + 2, mask=used, other=0)
    per_row, columns = tl.cdiv(rank, RANK_BLOCK), inner // right
    if (block < right * per_row) & (part * CHUNK < columns):
        lanes = tl.arange(0, RANK_BLOCK)
        row, ranks = block // per_row, block % per_row * RANK_BLOCK + lanes
        places = part * CHUNK + tl.arange(0, CHUNK)
        inside = places < columns
        token = (pair // experts).to(tl.int64)
        inputs = tl.load(x + token * x_stride + row * columns + places, mask=inside, other=0).to(tl.float32)
        slot_a = a + slot.to(tl.int64) * a_stride
        if right == 1:
            factor = _matrix(slot_a, ranks, rank, inner, places, places < inner)
        else:
            factor = _matrix(slot_a, ranks, rank, columns, places, inside)
        place = (pair.to(tl.int64) * tl.num_programs(1) + part) * blocks + block
        tl.store(hidden + place * RANK_BLOCK + lanes, tl.sum(factor * inputs[None, :], 1))


@triton.jit(do_not_specialize=["experts", "blocks"])
def _expand(
    y: tl.tensor, b: tl.tensor, k: tl.tensor, g: tl.tensor, shapes: tl.tensor, token_slots: tl.tensor,
    token_weights: tl.tensor, hidden: tl.tensor, experts: int, inner: int, out: int, blocks: int,
    y_stride: int, b_stride: int, k_stride: int, SCALES: tl.constexpr, PARTS: tl.constexpr, CHUNK: tl.constexpr,
    RANK_BLOCK: tl.constexpr, TILE: tl.constexpr,
) -> None:  # fmt: skip
    """y = (1 + sum w g) * y + sum w K hidden B, for one token and TILE outputs."""
    token = tl.program_id(0).to(tl.int64)
    outputs = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = outputs < out
    num_parts = tl.cdiv(inner, CHUNK)
    parts = tl.arange(0, PARTS)
    added = tl.zeros([TILE], tl.float32)
    scale = tl.full([TILE], 1.0, tl.float32)
    for expert in range(experts):
        pair = token * experts + expert
        slot, weight = tl.load(token_slots + pair).to(tl.int64), tl.load(token_weights + pair)
        used = (slot >= 0) & (weight != 0)
        left = tl.load(shapes + slot * 3, mask=used, other=1)
        right = tl.load(shapes + slot * 3 + 1, mask=used, other=1)
        rank = tl.load(shapes + slot * 3 + 2, mask=used, other=0)
        if SCALES:
            diagonal = tl.load(g + slot * out + outputs, mask=inside & used, other=0).to(tl.float32)
            scale += tl.where(used, weight, 0.0) * diagonal
        per_row, columns = tl.cdiv(rank, RANK_BLOCK), out // left
        slot_b = b + slot * b_stride
        filled = parts < tl.cdiv(inner // right, CHUNK)
        for block in range(per_row):
            ranks = block * RANK_BLOCK + tl.arange(0, RANK_BLOCK)
            mixed = tl.zeros([RANK_BLOCK, TILE], tl.float32)
            for row in range(right):
                index = row * per_row + block
                places = (pair * num_parts + parts) * blocks + index
                sums = tl.load(
                    hidden + places[:, None] * RANK_BLOCK + tl.arange(0, RANK_BLOCK)[None, :],
                    mask=filled[:, None] & ((ranks < rank) & (index < blocks))[None, :],
                    other=0,
                )
                across = tl.load(k + slot * k_stride + outputs // columns * right + row, mask=inside, other=0)
                mixed += tl.sum(sums, 0)[:, None] * across.to(tl.float32)[None, :]
            if left == 1:
                factor = _matrix(slot_b, ranks, rank, out, outputs, inside)
            else:
                factor = _matrix(slot_b, ranks, rank, columns, outputs % columns, inside)
            added += weight * tl.sum(mixed * factor, 0)
    place = y + token * y_stride + outputs
    result = tl.load(place, mask=inside, other=0).to(tl.float32) * scale + added
    tl.store(place, result.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["experts"])
def _diagonal(
    result: tl.tensor, y: tl.tensor, g: tl.tensor, token_slots: tl.tensor, token_weights: tl.tensor,
    experts: int, width: int, y_stride: int, result_stride: int, TILE: tl.constexpr,
) -> None:  # fmt: skip
    """result = (1 + sum w g) * y, for one token and TILE places."""
    token = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = places < width
    scale = tl.full([TILE], 1.0, tl.float32)
    for expert in range(experts):
        pair = token * experts + expert
        slot, weight = tl.load(token_slots + pair).to(tl.int64), tl.load(token_weights + pair)
        used = (slot >= 0) & (weight != 0)
        diagonal = tl.load(g + slot * width + places, mask=inside & used, other=0).to(tl.float32)
        scale += tl.where(used, weight, 0.0) * diagonal
    value = tl.load(y + token * y_stride + places, mask=inside, other=0).to(tl.float32) * scale
    tl.store(result + token * result_stride + places, value.to(result.dtype.element_ty), mask=inside)
