"""One row of logits -> one token, held to the row's grammar: sample, then verify.

The draw follows the masked distribution exactly. Without truncation a refused token is taken out and the next drawn
from what is left; with top-k, top-p or min-p the grammar's whole mask comes first, since it decides the nucleus.
"""

import random
from collections.abc import Collection

import torch
from torch import Tensor

from engine.errors import GrammarDeadEnd, LogitsInvalid
from engine.request import SamplingParams, TokenLogprobs, TokenMatcher
from engine.sequence import Sequence

MAX_REDRAWS = 16
"""Refusals after which the whole mask is cheaper than another draw."""
GREEDY_SPAN = 64
"""Candidates verified in one go when drawing greedily."""


@torch.inference_mode()
def sample(logits: Tensor, sequence: Sequence, eos_ids: Collection[int] = ()) -> int:
    """Draw from logits fp32 [vocab] on the CPU, which it may change. Raises GrammarDeadEnd or LogitsInvalid."""
    params, matcher = sequence.sampling, sequence.matcher
    for token, bias in params.logit_bias:
        logits[token] += bias
    penalize(logits, sequence)
    forbid_ends(logits, sequence, eos_ids)
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


def describe(logits: Tensor, token: int, count: int) -> TokenLogprobs:
    """The drawn token's log-probability and the `count` highest, from untouched logits [vocab]."""
    logprobs = torch.log_softmax(logits, -1)
    top = torch.topk(logprobs, min(count, len(logprobs)))
    return TokenLogprobs(float(logprobs[token]), tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))


def penalize(logits: Tensor, sequence: Sequence) -> None:
    """Make tokens seen before less likely, in place: Keskar et al. 2019 for repetition, then OpenAI's two."""
    params = sequence.sampling
    if params.repetition_penalty != 1.0:
        seen, penalty = torch.tensor(sorted({*sequence.prompt_ids, *sequence.output_ids})), params.repetition_penalty
        logits[seen] = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    if sequence.output_ids and (params.presence_penalty or params.frequency_penalty):
        tokens, counts = torch.tensor(sequence.output_ids).unique(return_counts=True)
        logits[tokens] -= params.presence_penalty + params.frequency_penalty * counts


def forbid_ends(logits: Tensor, sequence: Sequence, eos_ids: Collection[int]) -> None:
    """No end token below `min_tokens`, no end token of the base's under `ignore_eos`."""
    params = sequence.sampling
    too_short = len(sequence.output_ids) < params.min_tokens
    if too_short or params.ignore_eos:
        logits[list(eos_ids)] = -torch.inf
    if too_short:
        logits[list(params.stop_ids)] = -torch.inf


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
