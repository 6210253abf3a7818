"""Rows of logits -> one token each, held to the row's grammar: sample, then verify.

What all rows need is done for all of them in a few tensor operations, and each row gets exactly the token that it
would get alone. The draw follows the masked distribution exactly. Without truncation a refused token is taken out and
the next drawn from what is left; with top-k, top-p or min-p the grammar's whole mask comes first, since it decides the
nucleus.
"""

import random
from collections import defaultdict
from collections.abc import Collection
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.draws import BLOCK, Nucleus, argmax, block_sums, draw, draw_in_blocks, keep_head, largest, nucleus, peaks_of
from engine.errors import EngineError, GrammarDeadEnd, LogitsInvalid
from engine.request import SamplingParams, TokenLogprobs, TokenMatcher
from engine.sequence import Sequence

MAX_REDRAWS = 16
"""Refusals after which the whole mask is cheaper than another draw."""
GREEDY_SPAN = 64
"""Candidates verified in one go when drawing greedily."""
FIRST_CANDIDATES = 128
"""Of a nucleus whose size is not known; enough for nearly every step of a trained model."""
MORE_CANDIDATES = 32
"""The factor by which they grow where they did not hold the nucleus."""
LOWEST_TEMPERATURE = 1e-30
"""Below it float32 overflows, and the draw is greedy long before."""


@dataclass(slots=True)
class _Drawing:
    """A row that is drawn and not greedy: where it lies in the batch, and its own random numbers."""

    row: int
    sequence: Sequence
    draws: random.Random
    uniform: float

    @property
    def params(self) -> SamplingParams:
        return self.sequence.sampling


@torch.inference_mode()
def sample_batch(
    logits: Tensor, sequences: Ordered[Sequence], eos_ids: Collection[int] = ()
) -> list[int | EngineError]:
    """A token for each row of logits fp32 [rows, vocab] on the CPU, which may be changed.

    In the place of a row that cannot go on: GrammarDeadEnd or LogitsInvalid.
    """
    if not sequences:
        return []
    for row, sequence in zip(logits, sequences, strict=True):
        _adjust(row, sequence, eos_ids)
    peaks = peaks_of(logits)
    best: list[int] = argmax(logits, peaks).tolist()
    results: list[int | EngineError] = [*best]
    drawings: list[_Drawing] = []
    for row, (sequence, is_finite) in enumerate(zip(sequences, peaks.amax(-1).isfinite().tolist(), strict=True)):
        try:
            if not is_finite:
                raise LogitsInvalid("the model's output is not finite: an expert or the repetition penalty overflows")
            if sequence.sampling.temperature > 0:
                drawings.append(_begin(row, logits[row], sequence))
            elif sequence.matcher:
                results[row] = _greedy(logits[row], best[row], sequence.matcher)
        except EngineError as fault:
            results[row] = fault
    for row, result in _draw_all(logits, drawings).items():
        results[row] = result
    return results


def describe(logits: Tensor, token: int, count: int) -> TokenLogprobs:
    """The drawn token's log-probability and the `count` highest, from untouched logits [vocab]."""
    logprobs = torch.log_softmax(logits, -1)
    top = torch.topk(logprobs, min(count, len(logprobs)))
    return TokenLogprobs(float(logprobs[token]), tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))


def penalize(logits: Tensor, sequence: Sequence) -> None:
    """Make tokens seen before less likely, in place: Keskar et al. 2019 for repetition, then OpenAI's two."""
    params = sequence.sampling
    if params.repetition_penalty != 1.0:
        # An id in both parts gets the same value twice.
        seen = torch.cat(
            [torch.tensor(ids, dtype=torch.long) for ids in (sequence.distinct_prompt_ids, sequence.output_ids)]
        )
        penalty = params.repetition_penalty
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


def truncate(scaled: Tensor, params: Ordered[SamplingParams], num_candidates: int) -> Nucleus:
    """Top-k, then top-p and min-p, of logits [rows, vocab] over their temperatures; all rows with a top-k, or none.

    Looks at the `num_candidates` likeliest tokens, which is what top-k keeps.
    """
    top_p = torch.tensor([[p.top_p] for p in params], dtype=torch.double)
    min_p = torch.tensor([[p.min_p] for p in params])
    # A top-p of 1 drops nothing, also where rounding has added up to more.
    top_p[top_p >= 1] = torch.inf
    if not params[0].top_k:
        return nucleus(torch.softmax(scaled, -1), num_candidates, top_p, min_p)
    ranked, ids = largest(scaled, num_candidates)
    return Nucleus(keep_head(torch.softmax(ranked, -1), top_p, min_p), ids, torch.ones(len(scaled), dtype=torch.bool))


def _adjust(logits: Tensor, sequence: Sequence, eos_ids: Collection[int]) -> None:
    for token, bias in sequence.sampling.logit_bias:
        logits[token] += bias
    penalize(logits, sequence)
    forbid_ends(logits, sequence, eos_ids)


def _begin(row: int, logits: Tensor, sequence: Sequence) -> _Drawing:
    """Under a grammar a row that truncates is masked first; nothing is left to verify then."""
    if sequence.matcher and _truncates(sequence.sampling):
        _apply_mask(logits, sequence.matcher)
    draws = random.Random(_draw_seed(sequence))
    return _Drawing(row, sequence, draws, draws.random())


def _draw_all(logits: Tensor, drawings: list[_Drawing]) -> dict[int, int | EngineError]:
    """By row, what is drawn from logits that are penalized, and masked where they are truncated."""
    results: dict[int, int | EngineError] = {}
    groups: defaultdict[tuple[bool, int], list[_Drawing]] = defaultdict(list)
    for drawing in drawings:
        top_k = drawing.params.top_k
        size = (top_k or FIRST_CANDIDATES) if _truncates(drawing.params) else 0
        groups[top_k > 0, size].append(drawing)
    while groups:
        (has_top_k, size), members = groups.popitem()
        scaled = _scaled(logits, members)
        if size == 0:
            results |= _draw_free(logits, scaled, members)
            continue
        kept = truncate(scaled, [drawing.params for drawing in members], size)
        tokens = kept.ids.gather(1, draw(kept.weights, _uniforms(members))[:, None])[:, 0].tolist()
        for drawing, token, is_whole in zip(members, tokens, kept.is_whole.tolist(), strict=True):
            if is_whole:
                results[drawing.row] = token
            else:
                groups[has_top_k, size * MORE_CANDIDATES].append(drawing)
    return results


def _draw_free(logits: Tensor, scaled: Tensor, members: list[_Drawing]) -> dict[int, int | EngineError]:
    """Without truncation: one draw for all rows, then each row's grammar has its say."""
    weights = torch.softmax(scaled, -1)
    sums = block_sums(weights)
    results: dict[int, int | EngineError] = {}
    for index, token in enumerate(draw_in_blocks(weights, sums, _uniforms(members)).tolist()):
        drawing = members[index]
        results[drawing.row] = token
        if matcher := drawing.sequence.matcher:
            try:
                own = slice(index, index + 1)
                results[drawing.row] = _verified(logits, weights[own], sums[own], token, drawing, matcher)
            except GrammarDeadEnd as fault:
                results[drawing.row] = fault
    return results


def _verified(
    logits: Tensor, weights: Tensor, sums: Tensor, token: int, drawing: _Drawing, matcher: TokenMatcher
) -> int:
    """The token if the grammar allows it, else draws without replacement, and the whole mask in the end."""
    for _ in range(MAX_REDRAWS):
        if matcher.allows(token):
            return token
        block = token // BLOCK
        weights[0, token] = 0
        sums[0, block] = block_sums(weights[:, block * BLOCK : (block + 1) * BLOCK])[0, 0]
        if not sums.any():
            break
        token = int(draw_in_blocks(weights, sums, _uniform(drawing.draws.random())))
    _apply_mask(logits[drawing.row], matcher)
    weights = torch.softmax(_scaled(logits, [drawing]), -1)
    return int(draw(weights, _uniform(drawing.draws.random())))


def _scaled(logits: Tensor, members: list[_Drawing]) -> Tensor:
    """Logits over temperatures, a copy; the peak is taken off first, so that no temperature above zero overflows."""
    rows = logits[[drawing.row for drawing in members]]
    temperatures = [[max(drawing.params.temperature, LOWEST_TEMPERATURE)] for drawing in members]
    return rows.sub_(rows.amax(-1, keepdim=True)).div_(torch.tensor(temperatures))


def _uniforms(members: list[_Drawing]) -> Tensor:
    return torch.tensor([[drawing.uniform] for drawing in members], dtype=torch.double)


def _uniform(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.double)


def _truncates(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _draw_seed(sequence: Sequence) -> str | None:
    """A draw depends on the seed and its place in the answer alone, so nothing else that runs can change it."""
    seed = sequence.sampling.seed
    return None if seed is None else f"{seed}/{len(sequence.output_ids)}"


def _greedy(logits: Tensor, best: int, matcher: TokenMatcher) -> int:
    """The likeliest token [vocab] that the grammar allows, `best` being the likeliest: verified in descending order."""
    if matcher.allows(best):
        return best
    values, ids = largest(logits[None], GREEDY_SPAN)
    if (token := matcher.first_allowed(ids[values > -torch.inf].tolist())) is not None:
        return token
    _apply_mask(logits, matcher)
    return int(logits.argmax())


def _apply_mask(logits: Tensor, matcher: TokenMatcher) -> None:
    logits[~torch.from_numpy(matcher.mask())] = -torch.inf
    if not (logits > -torch.inf).any():
        raise GrammarDeadEnd("no token of the vocabulary continues the grammar here")
