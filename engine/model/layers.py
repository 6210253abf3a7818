"""Norm and attention over the paged cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Over the last dimension, computed in fp32 (Zhang and Sennrich 2019)."""
    wide = x.float()
    return gain * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


@dataclass(frozen=True, slots=True)
class PrefillSpan:
    """A row that feeds several tokens: where they lie in the step, and the cache positions that they may see."""

    begin: int
    end: int
    cache: Tensor
    """[context] flat cache positions, those of the fed tokens last."""
    mask: Tensor
    """[fed, context], True where a token may look."""


@dataclass(frozen=True, slots=True)
class StepContext:
    """What attention needs to know of a step."""

    cos: Tensor
    sin: Tensor
    write: Tensor
    """[tokens] flat cache positions of the fed tokens."""
    prefill: Sequence[PrefillSpan]
    decode: Tensor
    """[rows] indices of the tokens that are alone in their row."""
    decode_cache: Tensor
    """[rows, longest context] flat cache positions, padded with 0."""
    decode_mask: Tensor
    """[rows, 1, 1, longest context], True where a row may look."""


class KVCache:
    """Keys and values of one layer; a block is `block_size` consecutive flat positions."""

    def __init__(self, positions: int, heads: int, head_dim: int, like: Tensor) -> None:
        self.keys = like.new_zeros(positions, heads, head_dim)
        self.values = like.new_zeros(positions, heads, head_dim)

    @property
    def num_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


def attend(query: Tensor, key: Tensor, value: Tensor, cache: KVCache, step: StepContext) -> Tensor:
    """Store the new keys and values, then attend. query [tokens, heads, head_dim] -> the same shape."""
    cache.keys[step.write], cache.values[step.write] = key, value
    out = torch.empty_like(query)
    for span in step.prefill:
        out[span.begin : span.end] = _attention(
            query[span.begin : span.end][None],
            cache.keys[span.cache][None],
            cache.values[span.cache][None],
            span.mask[None, None],
        )[0]
    if len(step.decode):
        keys, values = cache.keys[step.decode_cache], cache.values[step.decode_cache]
        out[step.decode] = _attention(query[step.decode][:, None], keys, values, step.decode_mask)[:, 0]
    return out


def _attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """[batch, tokens, heads, head_dim] each; query heads share key heads in groups."""
    return scaled_dot_product_attention(
        query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask, enable_gqa=True
    ).transpose(1, 2)
