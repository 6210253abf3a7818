"""Draws of one row that is held to a grammar: sample, verify, redraw without replacement.

A proposal is drawn from the softmax of all tokens, and kept if the grammar allows it and it is in the nucleus of the
allowed tokens (top-k, then top-p of what that keeps, then min-p). The first few come out of one tensor operation. Where
none of them will do, what was refused is taken out, and with one beyond the nucleus all that rank below it, and it is
drawn from what remains. Only what has no place in the masked, truncated distribution is ever passed over, so what is
kept follows it exactly (rejection sampling, von Neumann 1951).

Masking first gives the identical token. Both ways propose the same tokens, by the same random numbers from the same
weights, and a proposal's fate hangs on two facts alone: what the grammar says of it, and whether it is in the nucleus.
Without the mask the second is told from the likeliest tokens, verified, with all others counted once as allowed and
once as refused; where rounding, or what those two say, leaves a doubt, the mask is asked for.

Ranking is by logit and, among equals, by id.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from engine.draws import block_sums, largest
from engine.errors import GrammarDeadEnd
from engine.remaining import Floats, Mask, Remaining, ahead_of
from engine.request import SamplingParams, TokenConstraint

NUM_PROPOSALS = 6
"""Drawn together, with replacement."""
MAX_REDRAWS = 12
"""Draws after those, after which the mask is cheaper than another one."""
SPAN = 64
"""The likeliest tokens, verified in one call where a single answer does not settle it."""
MARGIN = 1e-5
"""Of the whole weight: more than sums of fp32 weights can be off."""
LOWEST_TEMPERATURE = 1e-30
"""Below it float32 overflows, and the draw is greedy long before."""


def truncates(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


@dataclass(frozen=True, slots=True)
class ConstrainedRow:
    """A row to be drawn; nothing in it is changed, so it may be drawn twice."""

    logits: Floats
    """[vocab], after bias and penalties."""
    weights: Floats
    """[vocab], their softmax over the temperature."""
    sums: Floats
    """[blocks] of the weights."""
    best: int
    """The likeliest, the first of equals."""
    proposals: list[int]
    """[NUM_PROPOSALS], drawn from the weights by the seed's first `uniforms`."""
    seed: str | int
    params: SamplingParams
    matcher: TokenConstraint

    def draw(self, mask: Mask | None) -> int | None:
        """The token. None where it hangs on the mask: call again with it. Raises GrammarDeadEnd."""
        fates = _Fates(self, mask)
        for token in self.proposals:
            if (is_kept := fates.is_kept(token)) is not False:
                return token if is_kept else None
        remaining = Remaining(self.weights, self.sums)
        for token in fates.refused:
            remaining.remove(token)
        if fates.outside:
            remaining.cut(self.logits, min(fates.outside, key=self._rank))
        for number in range(NUM_PROPOSALS, NUM_PROPOSALS + MAX_REDRAWS):
            if remaining.is_empty:
                break
            token = remaining.draw(_uniform(self.seed, number))
            if (is_kept := fates.is_kept(token)) is not False:
                return token if is_kept else None
            if token in fates.refused:
                remaining.remove(token)
            else:
                remaining.cut(self.logits, token)
        mask = mask if mask is not None else self.matcher.hot_mask()
        return None if mask is None else self._draw_masked(mask)

    def _rank(self, token: int) -> tuple[float, int]:
        return -float(self.logits[token]), token

    def _draw_masked(self, mask: Mask) -> int:
        """From the allowed tokens alone, their weights anew: what is left of the first ones may be next to nothing."""
        logits = _masked(self.logits, mask)
        temperature = max(self.params.temperature, LOWEST_TEMPERATURE)
        weights = torch.softmax(torch.from_numpy((logits - logits.max()) / np.float32(temperature)), -1)
        remaining = Remaining(weights.numpy(), block_sums(weights[None])[0].numpy())
        number = NUM_PROPOSALS + MAX_REDRAWS
        token = remaining.draw(_uniform(self.seed, number))
        while not is_in_nucleus(token, logits, weights.numpy(), mask, self.params):
            number += 1
            remaining.cut(logits, token)
            token = remaining.draw(_uniform(self.seed, number))
        return token


def uniforms(seed: str | int) -> list[float]:
    """The random numbers of a row's first proposals."""
    return [_uniform(seed, number) for number in range(NUM_PROPOSALS)]


def best_allowed(logits: Floats, best: int, matcher: TokenConstraint, mask: Mask | None) -> int | None:
    """The likeliest token that the grammar allows, the first of equals, `best` being the likeliest of all.

    None where that hangs on the mask. Raises GrammarDeadEnd.
    """
    if mask is None:
        if matcher.allows(best):
            return best
        top = likeliest(logits, SPAN)
        allowed = matcher.allows_each(top)
        if allowed.any():
            return int(top[allowed.argmax()])
        mask = matcher.hot_mask()
    return None if mask is None else int(_masked(logits, mask).argmax())


def likeliest(logits: Floats, count: int) -> NDArray[np.int64]:
    """At most `count` ids, likeliest first: as many as no other id of an equal logit could stand among."""
    values, ids = (found[0].numpy() for found in largest(torch.from_numpy(logits)[None], count))
    is_certain = values > (values[-1] if count < len(logits) else -np.inf)
    values, ids = values[is_certain], ids[is_certain]
    ranked: NDArray[np.int64] = ids[np.lexsort((ids, -values))]
    return ranked


def is_in_nucleus(token: int, logits: Floats, weights: Floats, mask: Mask, params: SamplingParams) -> bool:
    """Whether truncation of the allowed tokens keeps an allowed one; exact but for the rounding of block sums."""
    if not truncates(params):
        return True
    before = ahead_of(token, logits)
    before &= mask
    num_before = np.count_nonzero(before)
    if not num_before:
        return True
    if 0 < params.top_k <= num_before:
        return False
    if params.min_p > 0:
        peak = weights[np.where(before, logits, -np.inf).argmax()]
        if float(weights[token]) < params.min_p * float(peak):
            return False
    if params.top_p >= 1:
        return True
    allowed: Floats = weights * mask
    if params.top_k and params.top_k < len(allowed):
        allowed = np.partition(allowed, -params.top_k)[-params.top_k :]
    return _sum(weights * before) < params.top_p * _sum(allowed)


class _Top(NamedTuple):
    """The likeliest tokens, verified; and the weight of all others, which are not."""

    ids: list[int]
    weights: NDArray[np.float64]
    allowed: Mask
    rest: float


class _Fates:
    """Says what becomes of a row's proposals, at the least cost that settles it."""

    def __init__(self, row: ConstrainedRow, mask: Mask | None) -> None:
        self._row, self._mask = row, mask
        self._top: _Top | None = None
        self.refused: set[int] = set()
        """By the grammar."""
        self.outside: set[int] = set()
        """Of the nucleus, though allowed."""

    def is_kept(self, token: int) -> bool | None:
        """Whether the token may be drawn. None where that hangs on a mask that is not at hand."""
        if token in self.refused or token in self.outside:
            return False
        if not (self._row.matcher.allows(token) if self._mask is None else self._mask[token]):
            self.refused.add(token)
            return False
        is_inside = self._is_inside(token)
        if is_inside is False:
            self.outside.add(token)
        return is_inside

    def _is_inside(self, token: int) -> bool | None:
        row = self._row
        if token == row.best or not truncates(row.params):
            return True
        if self._mask is None:
            self._mask = row.matcher.hot_mask()
        if self._mask is None:
            return self._bounded(token)
        return is_in_nucleus(token, row.logits, row.weights, self._mask, row.params)

    def _bounded(self, token: int) -> bool | None:
        top = self._top = self._top or self._verify()
        params, weight = self._row.params, float(self._row.weights[token])
        place = top.ids.index(token) if token in top.ids else len(top.ids)
        is_seen = place < len(top.ids)
        leading = top.weights[:place][top.allowed[:place]]
        if is_seen and not len(leading):
            return True
        if 0 < params.top_k <= len(leading):
            return False
        if len(leading) and weight < params.min_p * leading[0]:
            return False
        if not is_seen:
            return self._beyond(float(leading.sum()), top.rest, bool(len(leading)))
        return self._within(float(leading.sum()), len(leading), top, place)

    def _within(self, ahead: float, num_ahead: int, top: _Top, place: int) -> bool | None:
        """A token among the likeliest, `ahead` being the allowed weight before it."""
        params = self._row.params
        if params.top_p >= 1:
            return True
        following = top.weights[place:][top.allowed[place:]]
        rest = top.rest
        if params.top_k and num_ahead + len(following) >= params.top_k:
            following, rest = following[: params.top_k - num_ahead], 0.0
        total = ahead + float(following.sum())
        if ahead < params.top_p * total - MARGIN:
            return True
        return False if ahead >= params.top_p * (total + rest) + MARGIN else None

    def _beyond(self, ahead: float, rest: float, knows_peak: bool) -> bool | None:
        """A token after those, `ahead` being their allowed weight."""
        params = self._row.params
        if params.top_p < 1:
            return False if ahead >= params.top_p * (ahead + rest) + MARGIN else None
        return True if not params.top_k and knows_peak else None

    def _verify(self) -> _Top:
        row = self._row
        ids = likeliest(row.logits, SPAN)
        weights = row.weights[ids].astype(np.float64)
        rest = max(0.0, float(row.sums.sum(dtype=np.float64) - weights.sum()))
        return _Top(ids.tolist(), weights, row.matcher.allows_each(ids), rest)


def _masked(logits: Floats, mask: Mask) -> Floats:
    masked = np.where(mask, logits, np.float32(-np.inf))
    if not (masked > -np.inf).any():
        raise GrammarDeadEnd("no token of the vocabulary continues the grammar here")
    return masked


def _sum(weights: Floats) -> float:
    """The same however many threads there are."""
    return float(block_sums(torch.from_numpy(weights)[None])[0].numpy().sum(dtype=np.float64))


def _uniform(seed: str | int, number: int) -> float:
    """A draw's random number in [0, 1): fixed by the seed, and made in a microsecond."""
    digest = blake2b(f"{seed}/{number}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
