"""Norm, rotary positions and the feed-forward gate, one kernel each: computed in fp32, rounded once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 1024
"""Places of the gate that one program computes."""


def rms_norm(x: Tensor, gain: Tensor, eps: float, added: Tensor | None = None) -> Tensor:
    """gain * x / sqrt(mean(x^2) + eps) of each row of x [tokens, width] (Zhang and Sennrich 2019), in a new tensor.

    `added` [tokens, width] is first added to x in place: the residual of the part before.
    """
    tokens, width = x.shape
    assert x.stride(1) == 1 and (added is None or added.stride(1) == 1)
    out = torch.empty(tokens, width, dtype=x.dtype, device=x.device)
    if tokens:
        _rms_norm[(tokens,)](
            out, x, added, gain, eps, width, x.stride(0), 0 if added is None else added.stride(0),
            WIDTH=triton.next_power_of_2(width), ADDS=added is not None,
        )  # fmt: skip
    return out


def norm_rope(x: Tensor, gain: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """RMS norm of each head of x [tokens, heads, head_dim], then its rotary position, in a new tensor.

    `cos` and `sin` hold fp32 [tokens, head_dim], their halves alike, with or without a dimension of 1 for the heads.
    """
    tokens, heads, head_dim = x.shape
    assert x.stride(2) == 1 and cos.numel() == tokens * head_dim and cos.is_contiguous() and sin.is_contiguous()
    out = torch.empty(tokens, heads, head_dim, dtype=x.dtype, device=x.device)
    if tokens:
        _norm_rope[(tokens, heads)](
            out, x, gain, cos, sin, eps, x.stride(0), x.stride(1),
            HEADS=heads, HEAD_DIM=head_dim, WIDTH=triton.next_power_of_2(head_dim),
        )  # fmt: skip
    return out


def silu_mul(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up for [tokens, width] each, in a new tensor."""
    tokens, width = gate.shape
    assert gate.stride(1) == 1 and up.stride(1) == 1
    out = torch.empty(tokens, width, dtype=gate.dtype, device=gate.device)
    if tokens:
        _silu_mul[(tokens, triton.cdiv(width, TILE))](out, gate, up, width, gate.stride(0), up.stride(0), TILE=TILE)
    return out


@triton.jit
def _rms_norm(
    out: tl.tensor, x: tl.tensor, added: tl.tensor, gain: tl.tensor, eps: float, width: int, x_stride: int,
    added_stride: int, WIDTH: tl.constexpr, ADDS: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, WIDTH)
    inside = lanes < width
    value = tl.load(x + row * x_stride + lanes, mask=inside, other=0).to(tl.float32)
    if ADDS:
        value += tl.load(added + row * added_stride + lanes, mask=inside, other=0).to(tl.float32)
        rounded = value.to(x.dtype.element_ty)
        tl.store(x + row * x_stride + lanes, rounded, mask=inside)
        # The norm is of what the next reader of x will find.
        value = rounded.to(tl.float32)
    value *= 1 / tl.sqrt(tl.sum(value * value, 0) / width + eps)
    value *= tl.load(gain + lanes, mask=inside, other=0).to(tl.float32)
    tl.store(out + row * width + lanes, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_rope(
    out: tl.tensor, x: tl.tensor, gain: tl.tensor, cos: tl.tensor, sin: tl.tensor, eps: float, x_stride: int,
    head_stride: int, HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, WIDTH: tl.constexpr,
) -> None:  # fmt: skip
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    lanes = tl.arange(0, WIDTH)
    inside = lanes < HEAD_DIM
    half: tl.constexpr = HEAD_DIM // 2
    # A lane turns with the one half a head away, which is its sine's share.
    others = tl.where(lanes < half, lanes + half, lanes - half)
    row = x + token * x_stride + head * head_stride
    value = tl.load(row + lanes, mask=inside, other=0).to(tl.float32)
    norm = 1 / tl.sqrt(tl.sum(value * value, 0) / HEAD_DIM + eps)
    value *= tl.load(gain + lanes, mask=inside, other=0).to(tl.float32)
    other = tl.load(row + others, mask=inside, other=0).to(tl.float32)
    other *= tl.load(gain + others, mask=inside, other=0).to(tl.float32)
    across = tl.load(cos + token * HEAD_DIM + lanes, mask=inside, other=0)
    along = tl.load(sin + token * HEAD_DIM + lanes, mask=inside, other=0)
    turned = norm * (value * across + tl.where(lanes < half, -other, other) * along)
    place = out + (token * HEADS + head) * HEAD_DIM + lanes
    tl.store(place, turned.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _silu_mul(
    out: tl.tensor, gate: tl.tensor, up: tl.tensor, width: int, gate_stride: int, up_stride: int, TILE: tl.constexpr
) -> None:
    token = tl.program_id(0).to(tl.int64)
    places = tl.program_id(1) * TILE + tl.arange(0, TILE)
    inside = places < width
    value = tl.load(gate + token * gate_stride + places, mask=inside, other=0).to(tl.float32)
    factor = tl.load(up + token * up_stride + places, mask=inside, other=0).to(tl.float32)
    result = value * tl.sigmoid(value) * factor
    tl.store(out + token * width + places, result.to(out.dtype.element_ty), mask=inside)
