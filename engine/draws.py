"""Top candidates and weighted draws over a large vocabulary, many rows at a time. Knows no request and no grammar.

The vocabulary is looked at in blocks. The k largest values of a row lie in the k blocks with the largest maxima, and a
weighted draw is one draw among the blocks' sums and one inside a block; so nothing here sorts or accumulates the whole
vocabulary. No operation reduces over rows, and those whose rounding depends on an element's place among all elements
(exp by itself) are avoided for those that treat each row alone (softmax): a row's result is the same in any batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

BLOCK = 64


def in_blocks(values: Tensor, filler: float) -> Tensor:
    """[rows, vocab] -> [rows, blocks, BLOCK]: a view, or a padded copy where BLOCK does not divide the vocabulary."""
    missing = -values.shape[-1] % BLOCK
    padded = pad(values, (0, missing), value=filler) if missing else values
    return padded.view(values.shape[0], -1, BLOCK)


def peaks_of(values: Tensor) -> Tensor:
    """The largest value of each block, [rows, blocks]; NaN where the block holds one."""
    return in_blocks(values, -torch.inf).amax(-1)


def argmax(values: Tensor, peaks: Tensor) -> Tensor:
    """The index of each row's largest value, the first of equals; [rows]."""
    block = peaks.argmax(-1)
    rows = torch.arange(len(values))
    return block * BLOCK + in_blocks(values, -torch.inf)[rows, block].argmax(-1)


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest of each row in descending order and their indices, both [rows, count].

    Among values of -inf, indices beyond the vocabulary may appear.
    """
    if count * BLOCK >= values.shape[-1]:
        top = values.topk(min(count, values.shape[-1]))
        return top.values, top.indices
    blocked = in_blocks(values, -torch.inf)
    chosen = blocked.amax(-1).topk(count).indices
    top = blocked.gather(1, chosen[..., None].expand(-1, -1, BLOCK)).flatten(1).topk(count)
    return top.values, chosen.gather(1, top.indices // BLOCK) * BLOCK + top.indices % BLOCK


@dataclass(frozen=True, slots=True)
class Nucleus:
    """What truncation leaves of some rows, likeliest first; dropped candidates weigh nothing."""

    weights: Tensor
    """[rows, candidates]"""
    ids: Tensor
    """[rows, candidates]"""
    is_whole: Tensor
    """[rows], whether nothing beyond the candidates belongs to it."""


def nucleus(probabilities: Tensor, count: int, top_p: Tensor, min_p: Tensor) -> Nucleus:
    """Top-p, then min-p, looking at the `count` likeliest tokens of full probabilities [rows, vocab].

    `top_p` and `min_p` are [rows, 1]. Both keep a head of the ranking and always the likeliest token, so a row is
    whole as soon as its last candidate is dropped.
    """
    ranked, ids = largest(probabilities, count)
    weights = keep_head(ranked, top_p, min_p)
    is_whole = (weights[:, -1] == 0) | (weights.shape[-1] == probabilities.shape[-1])
    return Nucleus(weights, ids, is_whole)


def keep_head(ranked: Tensor, top_p: Tensor, min_p: Tensor) -> Tensor:
    """Zero what top-p (of a total of 1) and min-p drop of descending probabilities [rows, count]."""
    before = ranked.double().cumsum(-1) - ranked
    keep = (before < top_p) & (ranked >= min_p * ranked[:, :1])
    keep[:, 0] = True
    return ranked * keep


def block_sums(weights: Tensor) -> Tensor:
    """[rows, blocks] of weights [rows, vocab]."""
    return in_blocks(weights, 0.0).sum(-1)


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Inverse transform over unnormalised weights [rows, count]; uniforms fp64 [rows, 1] in [0, 1). Indices [rows].

    A row needs a weight above zero, and only such indices are drawn.
    """
    cumulative = weights.double().cumsum(-1)
    return _invert(cumulative, uniforms * cumulative[:, -1:])[0].squeeze(-1)


def draw_in_blocks(weights: Tensor, sums: Tensor, uniforms: Tensor) -> Tensor:
    """The same over weights [rows, vocab] with their `block_sums`, for each uniform [rows, draws]; of that shape."""
    cumulative = sums.double().cumsum(-1)
    block, rest = _invert(cumulative, uniforms * cumulative[:, -1:])
    members = in_blocks(weights, 0.0).gather(1, block[..., None].expand(-1, -1, BLOCK))
    inside, _ = _invert(members.double().cumsum(-1), rest[..., None])
    return block * BLOCK + inside[..., 0]


def _invert(cumulative: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first index whose cumulative weight exceeds the target, and how far into its weight the target lies.

    A target that rounding has moved to the end falls on the last weight above zero.
    """
    target = torch.minimum(target, torch.nextafter(cumulative[..., -1:], torch.zeros((), dtype=torch.double)))
    index = torch.searchsorted(cumulative, target, right=True)
    before = cumulative.gather(-1, (index - 1).clamp(min=0))
    return index, target - before * (index > 0)
