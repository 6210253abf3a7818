"""One row of logits -> one token, held to the row's grammar: sample, then verify.

The draw follows the masked distribution exactly. Without truncation a refused token is taken out and the next drawn
from what is left; with top-k, top-p or min-p the grammar's whole mask comes first, since it decides the nucleus.
"""

import random

import torch
from torch import Tensor

from engine.errors import GrammarDeadEnd, LogitsInvalid
from engine.request import SamplingParams, TokenMatcher
from engine.sequence import Sequence

MAX_REDRAWS = 16
"""Refusals after which the whole mask is cheaper than another draw."""
GREEDY_SPAN = 64
"""Candidates verified in one go when drawing greedily."""


@torch.inference_mode()
def sample(logits: Tensor, sequence: Sequence) -> int:
    """Draw from logits fp32 [vocab] on the CPU, which it may change. Raises GrammarDeadEnd or LogitsInvalid."""
    params, matcher = sequence.sampling, sequence.matcher
    penalize(logits, sequence, params.repetition_penalty)
    if logits.isnan().any() or logits.max().isinf():
        raise LogitsInvalid("the model's output is not finite: an expert or the repetition penalty overflows")
    if params.temperature == 0:
        return _greedy(logits, matcher)
    draws = random.Random(_draw_seed(sequence))
    if matcher and _truncates(params):
        _apply_mask(logits, matcher)
        matcher = None
    probabilities = truncate(_softmax(logits, params.temperature), params)
    for _ in range(MAX_REDRAWS if matcher else 1):
        token = _draw(probabilities, draws.random())
        if matcher is None or matcher.allows(token):
            return token
        probabilities[token] = 0
        if not probabilities.any():
            break
    assert matcher is not None
    _apply_mask(logits, matcher)
    return _draw(_softmax(logits, params.temperature), draws.random())


def penalize(logits: Tensor, sequence: Sequence, penalty: float) -> None:
    """Make tokens seen before less likely (Keskar et al. 2019), in place."""
    if penalty == 1.0:
        return
    seen = torch.tensor(sorted({*sequence.prompt_ids, *sequence.output_ids}))
    logits[seen] = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)


def truncate(probabilities: Tensor, params: SamplingParams) -> Tensor:
    """Zero what top-k, top-p and min-p drop, in that order; the likeliest token always stays."""
    if not _truncates(params):
        return probabilities
    order = torch.argsort(probabilities, descending=True, stable=True)
    ranked = probabilities[order]
    if params.top_k:
        ranked[params.top_k :] = 0
    if params.top_p < 1:
        ranked = ranked / ranked.sum()
        ranked[1:][ranked.cumsum(0)[:-1] >= params.top_p] = 0
    if params.min_p > 0:
        ranked[1:][ranked[1:] < params.min_p * ranked[0]] = 0
    return torch.zeros_like(probabilities).scatter_(0, order, ranked)


def _softmax(logits: Tensor, temperature: float) -> Tensor:
    """The peak is taken off first, so that no temperature above zero overflows."""
    return torch.softmax((logits - logits.max()) / temperature, -1)


def _truncates(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _draw_seed(sequence: Sequence) -> str | None:
    """A draw depends on the seed and its place in the answer alone, so nothing else that runs can change it."""
    seed = sequence.sampling.seed
    return None if seed is None else f"{seed}/{len(sequence.output_ids)}"


def _greedy(logits: Tensor, matcher: TokenMatcher | None) -> int:
    """The likeliest token, under a grammar the likeliest allowed one: verified in descending order."""
    best = int(logits.argmax())
    if matcher is None or matcher.allows(best):
        return best
    candidates = torch.topk(logits, min(GREEDY_SPAN, len(logits)))
    finite = candidates.indices[candidates.values > -torch.inf].tolist()
    if (token := matcher.first_allowed(finite)) is not None:
        return token
    _apply_mask(logits, matcher)
    return int(logits.argmax())


def _apply_mask(logits: Tensor, matcher: TokenMatcher) -> None:
    logits[~torch.from_numpy(matcher.mask())] = -torch.inf
    if not (logits > -torch.inf).any():
        raise GrammarDeadEnd("no token of the vocabulary continues the grammar here")


def _draw(weights: Tensor, uniform: float) -> int:
    """Inverse transform over unnormalised weights; `uniform` in [0, 1)."""
    sums = weights.double().cumsum(0)
    token = int(torch.searchsorted(sums, uniform * sums[-1], right=True))
    return min(token, int(weights.nonzero()[-1]))
