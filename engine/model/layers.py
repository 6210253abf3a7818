"""Norm and attention over the paged cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from engine.model.delta import Mixtures
from engine.model.memory import zeros
from engine.model.rope import Rotary


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """Over the last dimension, computed in fp32 (Zhang and Sennrich 2019)."""
    wide = x.float()
    return gain * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)).to(x.dtype)


@dataclass(frozen=True, slots=True)
class StepInputs:
    """What a step feeds the model: plain arrays over its rows and tokens, on the model's device."""

    ids: Tensor
    """int64 [tokens]; ids from `vocab_size` on are virtual tokens, rows of the slots' soft prompts."""
    positions: Tensor
    """int64 [tokens]"""
    begins: tuple[int, ...]
    """Where each row's tokens begin in the step; one more for the end."""
    starts: tuple[int, ...]
    """The position of each row's first token; what lies before is in the cache."""
    tables: Tensor
    """int32 [rows, most blocks]: each row's blocks, then zeros."""
    sampled: Tensor
    """int64: the tokens whose logits are asked for."""
    mixtures: Mixtures


@dataclass(frozen=True, slots=True)
class PrefillSpan:
    """A row that feeds several tokens: where they lie in the step, and the cache positions that they may see."""

    begin: int
    end: int
    cache: Tensor
    """[context] flat cache positions, those of the fed tokens last."""
    mask: Tensor
    """[fed, context], True where a token may look."""

    @classmethod
    def of(cls, begin: int, end: int, start: int, cache: Tensor) -> "PrefillSpan":
        """Of the tokens from `begin` to `end`, the first of them at the position `start`."""
        mask = torch.ones(end - begin, len(cache), dtype=torch.bool, device=cache.device).tril(start)
        return cls(begin, end, cache, mask)


@dataclass(frozen=True, slots=True)
class StepContext:
    """What the reference attention needs to know of a step."""

    cos: Tensor
    sin: Tensor
    write: Tensor
    """[tokens] flat cache positions of the fed tokens."""
    prefill: Sequence[PrefillSpan]
    decode: Tensor
    """[rows] indices of the tokens that are alone in their row."""
    decode_cache: Tensor
    """[rows, longest context] flat cache positions."""
    decode_mask: Tensor
    """[rows, 1, 1, longest context], True where a row may look."""

    @classmethod
    def of(cls, inputs: StepInputs, rotary: Rotary, block_size: int) -> "StepContext":
        device = inputs.ids.device
        cos, sin = rotary.at(inputs.positions)
        # [rows, every position of the blocks]
        cache = (inputs.tables.long()[:, :, None] * block_size + torch.arange(block_size, device=device)).flatten(1)
        prefill, single, lengths, alone, write = [], [], [], [], []
        for row, (begin, end) in enumerate(pairwise(inputs.begins)):
            start, length = inputs.starts[row], inputs.starts[row] + end - begin
            write.append(cache[row, start:length])
            if end - begin == 1:
                single.append(begin)
                alone.append(row)
                lengths.append(length)
            else:
                prefill.append(PrefillSpan.of(begin, end, start, cache[row, :length]))
        longest = max(lengths, default=0)
        seen = torch.arange(longest, device=device) < torch.tensor(lengths, device=device)[:, None]
        # What is masked is still read, and 0 * NaN is NaN: beyond its length a row reads a position of its own.
        decode_cache = torch.where(seen, cache[alone, :longest], cache[alone, :1])
        decode = torch.tensor(single, dtype=torch.long, device=device)
        return cls(cos, sin, torch.cat(write), prefill, decode, decode_cache, seen[:, None, None])


class KVCache:
    """Keys and values of one layer; a block is `block_size` consecutive flat positions.

    int8 keeps one scale for each position and head: its largest value is 127.
    """

    def __init__(self, positions: int, heads: int, head_dim: int, like: Tensor, int8: bool = False) -> None:
        shape, dtype = (positions, heads, head_dim), torch.int8 if int8 else like.dtype
        self.keys, self.values = zeros(shape, like, dtype), zeros(shape, like, dtype)
        self.scales = zeros((2, positions, heads), like, torch.float32) if int8 else None
        """Of keys and values."""

    @property
    def num_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes + (0 if self.scales is None else self.scales.nbytes)

    def write(self, positions: Tensor, key: Tensor, value: Tensor) -> None:
        """key, value [tokens, heads, head_dim] to flat positions [tokens]."""
        for index, (cached, new) in enumerate(((self.keys, key), (self.values, value))):
            if self.scales is None:
                cached[positions] = new.to(cached.dtype)
            else:
                scale = new.float().abs().amax(-1) / 127
                self.scales[index, positions] = scale
                cached[positions] = (new.float() / scale.clamp_min(1e-30)[..., None]).round().to(torch.int8)

    def read(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values at positions of any shape, [*positions, heads, head_dim]."""
        keys, values = self.keys[positions].to(dtype), self.values[positions].to(dtype)
        if self.scales is None:
            return keys, values
        scales = self.scales[:, positions, :, None].to(dtype)
        return keys * scales[0], values * scales[1]


def attend(query: Tensor, key: Tensor, value: Tensor, cache: KVCache, step: StepContext) -> Tensor:
    """Store the new keys and values, then attend. query [tokens, heads, head_dim] -> the same shape."""
    cache.write(step.write, key, value)
    out = torch.empty_like(query)
    for span in step.prefill:
        keys, values = cache.read(span.cache[None], query.dtype)
        out[span.begin : span.end] = _attention(
            query[span.begin : span.end][None], keys, values, span.mask[None, None]
        )[0]
    if len(step.decode):
        keys, values = cache.read(step.decode_cache, query.dtype)
        out[step.decode] = _attention(query[step.decode][:, None], keys, values, step.decode_mask)[:, 0]
    return out


def _attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """[batch, tokens, heads, head_dim] each; query heads share key heads in groups."""
    return scaled_dot_product_attention(
        query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask, enable_gqa=True
    ).transpose(1, 2)
