"""Rows of logits -> one token each, held to the row's grammar: sample, then verify.

What all rows need is done for all of them in a few tensor operations, and each row gets exactly the token that it
would get alone. Under a grammar a row is drawn as `constrained` says; the whole masks that a step can not do without
are made in threads, side by side.
"""

import random
from collections import defaultdict
from collections.abc import Collection
from collections.abc import Sequence as Ordered
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.constrained import LOWEST_TEMPERATURE, ConstrainedRow, best_allowed, truncates, uniforms
from engine.draws import Nucleus, argmax, block_sums, draw, draw_in_blocks, keep_head, largest, nucleus, peaks_of
from engine.errors import EngineError, GrammarDeadEnd, LogitsInvalid
from engine.request import SamplingParams, TokenConstraint, TokenLogprobs
from engine.sequence import Sequence

FIRST_CANDIDATES = 128
"""Of a nucleus whose size is not known; enough for nearly every step of a trained model."""
MORE_CANDIDATES = 32
"""The factor by which they grow where they did not hold the nucleus."""


@dataclass(frozen=True, slots=True)
class _Drawing:
    """A row that is drawn and not greedy: where it lies in the batch, and its own random numbers."""

    row: int
    sequence: Sequence
    best: int
    seed: str | int
    uniforms: list[float]
    """The seed's first numbers: one, or as many as a row under a grammar has proposals."""

    @property
    def params(self) -> SamplingParams:
        return self.sequence.sampling


@dataclass(frozen=True, slots=True)
class _Greedy:
    """A row under a grammar that takes the likeliest allowed token."""

    logits: NDArray[np.float32]
    best: int
    matcher: TokenConstraint

    def draw(self, mask: NDArray[np.bool_] | None) -> int | None:
        return best_allowed(self.logits, self.best, self.matcher, mask)


@dataclass(slots=True)
class _Step:
    """What is known of a step's rows."""

    results: list[int | EngineError]
    drawings: list[_Drawing] = field(default_factory=list)
    constrained: dict[int, _Greedy | ConstrainedRow] = field(default_factory=dict)
    """By row, what a grammar has to settle."""


@torch.inference_mode()
def sample_batch(
    logits: Tensor, sequences: Ordered[Sequence], eos_ids: Collection[int] = (), threads: Executor | None = None
) -> list[int | EngineError]:
    """A token for each row of logits fp32 [rows, vocab] on the CPU, which may be changed.

    In the place of a row that cannot go on: GrammarDeadEnd or LogitsInvalid. The threads make whole masks; how many
    there are changes no token.
    """
    if not sequences:
        return []
    for row, sequence in zip(logits.numpy(), sequences, strict=True):
        _adjust(row, sequence, eos_ids)
    step = _begin(logits, sequences)
    _draw_all(logits, step)
    _settle(step, threads)
    return step.results


def describe(logits: Tensor, token: int, count: int) -> TokenLogprobs:
    """The drawn token's log-probability and the `count` highest, from untouched logits [vocab]."""
    logprobs = torch.log_softmax(logits, -1)
    top = torch.topk(logprobs, min(count, len(logprobs)))
    return TokenLogprobs(float(logprobs[token]), tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))


def penalize(values: NDArray[np.float32], sequence: Sequence) -> None:
    """Make tokens seen before less likely, in place: Keskar et al. 2019 for repetition, then OpenAI's two."""
    params = sequence.sampling
    if params.repetition_penalty == 1.0 and not (params.presence_penalty or params.frequency_penalty):
        return
    logits = torch.from_numpy(values)  # which says nothing of an overflow; it is found later
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


def forbid_ends(logits: NDArray[np.float32], sequence: Sequence, eos_ids: Collection[int]) -> None:
    """No end token below `min_tokens`, no end token of the base's under `ignore_eos`."""
    params = sequence.sampling
    too_short = len(sequence.output_ids) < params.min_tokens
    if too_short or params.ignore_eos:
        logits[[*eos_ids]] = -np.inf
    if too_short:
        logits[[*params.stop_ids]] = -np.inf


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


def _adjust(logits: NDArray[np.float32], sequence: Sequence, eos_ids: Collection[int]) -> None:
    for token, bias in sequence.sampling.logit_bias:
        logits[token] += bias
    penalize(logits, sequence)
    forbid_ends(logits, sequence, eos_ids)


def _begin(logits: Tensor, sequences: Ordered[Sequence]) -> _Step:
    """Greedy rows are drawn, but for their grammars; faults are in the place of rows that are not finite."""
    peaks = peaks_of(logits)
    best: list[int] = argmax(logits, peaks).tolist()
    step = _Step([*best])
    for row, (sequence, is_finite) in enumerate(zip(sequences, peaks.amax(-1).isfinite().tolist(), strict=True)):
        if not is_finite:
            step.results[row] = LogitsInvalid(
                "the model's output is not finite: an expert or the repetition penalty overflows"
            )
        elif sequence.sampling.temperature > 0:
            seed = _draw_seed(sequence)
            numbers = uniforms(seed) if sequence.constraint else [random.Random(seed).random()]
            step.drawings.append(_Drawing(row, sequence, best[row], seed, numbers))
        elif constraint := sequence.constraint:
            step.constrained[row] = _Greedy(logits[row].numpy(), best[row], constraint)
    return step


def _draw_all(logits: Tensor, step: _Step) -> None:
    """Draw from logits that are penalized; for rows under a grammar, a first proposal."""
    groups: defaultdict[tuple[bool, int], list[_Drawing]] = defaultdict(list)
    for drawing in step.drawings:
        top_k = drawing.params.top_k
        is_free = drawing.sequence.constraint or not truncates(drawing.params)
        groups[(False, 0) if is_free else (top_k > 0, top_k or FIRST_CANDIDATES)].append(drawing)
    while groups:
        (has_top_k, size), members = groups.popitem()
        scaled = _scaled(logits, members)
        if size == 0:
            _draw_free(logits, scaled, members, step)
            continue
        kept = truncate(scaled, [drawing.params for drawing in members], size)
        tokens = kept.ids.gather(1, draw(kept.weights, _uniforms(members))[:, None])[:, 0].tolist()
        for drawing, token, is_whole in zip(members, tokens, kept.is_whole.tolist(), strict=True):
            if is_whole:
                step.results[drawing.row] = token
            else:
                groups[has_top_k, size * MORE_CANDIDATES].append(drawing)


def _draw_free(logits: Tensor, scaled: Tensor, members: list[_Drawing], step: _Step) -> None:
    """One draw from all tokens for all rows; those under a grammar get proposals, to be verified later."""
    weights = torch.softmax(scaled, -1)
    sums = block_sums(weights)
    for index, proposals in enumerate(draw_in_blocks(weights, sums, _uniforms(members)).tolist()):
        drawing = members[index]
        step.results[drawing.row] = proposals[0]
        if matcher := drawing.sequence.constraint:
            step.constrained[drawing.row] = ConstrainedRow(
                logits=logits[drawing.row].numpy(),
                weights=weights[index].numpy(),
                sums=sums[index].numpy(),
                best=drawing.best,
                proposals=proposals,
                seed=drawing.seed,
                params=drawing.params,
                matcher=matcher,
            )


def _settle(step: _Step, threads: Executor | None) -> None:
    """Let the grammars have their say; rows that hang on a mask are drawn again once all those are there."""
    hanging = [row for row in step.constrained if not _is_settled(step, row, None)]
    matchers = [step.constrained[row].matcher for row in hanging]
    masks = (threads.map if threads and len(matchers) > 1 else map)(_mask_of, matchers)
    for row, mask in zip(hanging, masks, strict=True):
        settled = _is_settled(step, row, mask)
        assert settled, "a row that has its mask hangs on nothing"


def _is_settled(step: _Step, row: int, mask: NDArray[np.bool_] | None) -> bool:
    try:
        token = step.constrained[row].draw(mask)
    except GrammarDeadEnd as fault:
        step.results[row] = fault
        return True
    if token is not None:
        step.results[row] = token
    return token is not None


def _mask_of(matcher: TokenConstraint) -> NDArray[np.bool_]:
    return matcher.mask()


def _scaled(logits: Tensor, members: list[_Drawing]) -> Tensor:
    """Logits over temperatures, a copy; the peak is taken off first, so that no temperature above zero overflows."""
    rows = logits[[drawing.row for drawing in members]]
    temperatures = [[max(drawing.params.temperature, LOWEST_TEMPERATURE)] for drawing in members]
    return rows.sub_(rows.amax(-1, keepdim=True)).div_(torch.tensor(temperatures))


def _uniforms(members: list[_Drawing]) -> Tensor:
    """[rows, draws]; rows that need fewer draws than others repeat their last."""
    longest = max(len(drawing.uniforms) for drawing in members)
    rows = [[*drawing.uniforms, *drawing.uniforms[-1:] * (longest - len(drawing.uniforms))] for drawing in members]
    return torch.tensor(rows, dtype=torch.double)


def _draw_seed(sequence: Sequence) -> str | int:
    """A draw depends on the seed and its place in the answer alone, so nothing else that runs can change it."""
    seed = sequence.sampling.seed
    return random.getrandbits(64) if seed is None else f"{seed}/{len(sequence.output_ids)}"
