"""Thinking before the answer: the grammar waits for it and is never skipped, whoever ends the thinking."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import SamplingInvalid
from engine.kv_blocks import BlockPool
from engine.request import FinishReason, GenerationRequest, SamplingParams, TextPart, Thinking, TokenEvent
from engine.sampler import sample_batch
from engine.scheduler import Scheduler
from engine.sequence import Sequence
from engine.thinking import ThinkingGate
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.models import load_reference
from tests.unit.engine.test_scheduling import CONFIG, EOS, VOCAB

OPEN, CLOSE, LINE, GAP = 40, 41, 42, 43
"""Marks, and the line feeds that the engine puts before and behind a close."""
THINKING = Thinking(OPEN, CLOSE, (LINE,), (GAP,), budget=3, is_open=False)
OPENED = replace(THINKING, is_open=True)


@dataclass
class Spelled:
    """A grammar of one sentence: exactly these tokens."""

    ids: tuple[int, ...]
    place: int = 0
    is_closed: bool = False

    @property
    def is_complete(self) -> bool:
        return self.place == len(self.ids)

    @property
    def must_stop(self) -> bool:
        return self.is_complete

    def allows(self, token_id: int) -> bool:
        return self.ids[self.place : self.place + 1] == (token_id,)

    def allows_each(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.array([self.allows(int(token)) for token in token_ids], np.bool_)

    def hot_mask(self) -> NDArray[np.bool_] | None:
        return None

    def mask(self) -> NDArray[np.bool_]:
        return self.allows_each(np.arange(97))

    def forced_tokens(self) -> tuple[int, ...]:
        return ()

    def accept(self, token_id: int) -> None:
        assert self.allows(token_id)
        self.place += 1

    def close(self) -> None:
        self.is_closed = True


def started(
    thinking: Thinking | None, matcher: Spelled | None = None, **sampling: object
) -> tuple[Scheduler, Sequence]:
    params = SamplingParams(**{"max_tokens": 30, **sampling})  # type: ignore[arg-type]
    gate = ThinkingGate(thinking, matcher) if thinking else None
    sequence = Sequence(1, (2, 3, 4), (), params, matcher, CONFIG.max_context, gate=gate)
    machine = Scheduler(CONFIG, BlockPool(30, CONFIG.block_size), VOCAB, frozenset([EOS]))
    machine.add(sequence)
    return machine, sequence


def draw(machine: Scheduler, *tokens: int) -> list[TokenEvent]:
    """One step for each token that a model draws."""
    events: list[TokenEvent] = []
    for token in tokens:
        plan = machine.plan()
        events += machine.commit(plan, {row.sequence_id: token for row in plan.rows if row.samples}).get(1, [])
        machine.check_integrity()
    return events


def texts(events: list[TokenEvent]) -> list[tuple[int, str]]:
    return [(event.token_id, str(event.part)) for event in events if event.token_id is not None]


def test_the_grammar_begins_behind_the_close() -> None:
    matcher = Spelled((7, 8))
    machine, sequence = started(THINKING, matcher)
    events = draw(machine, OPEN, 9, CLOSE)
    assert matcher.place == 0 and not sequence.is_thinking and sequence.constraint is matcher
    events += draw(machine, 7, 8)
    assert texts(events) == [
        (OPEN, "mark"), (9, "thinking"), (CLOSE, "mark"), (GAP, "mark"), (7, "answer"), (8, "answer"),
    ]  # fmt: skip
    assert events[-1].finish is FinishReason.STOP and matcher.is_closed


def test_inside_of_thinking_the_draw_is_free() -> None:
    machine, sequence = started(OPENED, Spelled((7,)))
    assert sequence.constraint is None
    draw(machine, 9)
    assert sequence.constraint is None


def test_what_the_engine_puts_is_computed_with_the_next_step() -> None:
    machine, _ = started(OPENED, Spelled((7, 8)))
    draw(machine, 9, CLOSE)
    (row,) = machine.plan().rows
    assert row.token_ids == (CLOSE, GAP) and row.samples


def test_a_budget_that_is_used_up_closes_the_thinking() -> None:
    machine, sequence = started(OPENED, Spelled((7, 8)))
    assert texts(draw(machine, 9, 9, 9))[2:] == [(9, "thinking"), (LINE, "mark"), (CLOSE, "mark"), (GAP, "mark")]
    assert not sequence.is_thinking


def test_no_line_feed_is_put_behind_one() -> None:
    machine, _ = started(OPENED)
    assert [token for token, _ in texts(draw(machine, 9, 9, LINE))] == [9, 9, LINE, CLOSE, GAP]


def test_an_end_inside_of_thinking_is_a_close() -> None:
    matcher = Spelled((7, 8))
    machine, _ = started(OPENED, matcher)
    events = draw(machine, 9, EOS, 7, 8)
    assert [token for token, _ in texts(events)] == [9, LINE, CLOSE, GAP, 7, 8]
    assert events[-1].finish is FinishReason.STOP


def test_an_end_as_the_first_thought_is_a_close_too() -> None:
    machine, _ = started(OPENED, Spelled((7,)))
    assert texts(draw(machine, EOS)) == [(LINE, "mark"), (CLOSE, "mark"), (GAP, "mark")]


def test_stop_ids_are_the_answers_alone() -> None:
    machine, _ = started(OPENED, stop_ids=(9,))
    assert texts(draw(machine, 9)) == [(9, "thinking")]
    assert draw(machine, CLOSE, 9)[-1].finish is FinishReason.STOP


@pytest.mark.parametrize("thinking", [THINKING, OPENED])
def test_a_second_close_and_a_second_opening_belong_to_the_answer(thinking: Thinking) -> None:
    machine, sequence = started(thinking)
    events = draw(machine, *([] if thinking.is_open else [OPEN]), CLOSE, CLOSE, OPEN, 9)
    assert texts(events)[-3:] == [(CLOSE, "answer"), (OPEN, "answer"), (9, "answer")]
    assert not sequence.is_thinking


def test_max_tokens_inside_of_thinking_ends_by_length() -> None:
    matcher = Spelled((7, 8))
    machine, _ = started(OPENED, matcher, max_tokens=2)
    events = draw(machine, 9, 9)
    assert events[-1].finish is FinishReason.LENGTH
    assert matcher.place == 0 and matcher.is_closed


def test_max_tokens_holds_for_what_the_engine_puts() -> None:
    machine, sequence = started(OPENED, max_tokens=4)
    events = draw(machine, 9, 9, 9)
    assert [token for token, _ in texts(events)] == [9, 9, 9, LINE]
    assert events[-1].finish is FinishReason.LENGTH and not machine.has_work
    assert len(sequence.output_ids) == 4


def test_a_model_that_opens_no_thinking_is_held_to_the_grammar_from_its_first_token() -> None:
    matcher = Spelled((7, 8))
    machine, sequence = started(THINKING, matcher)
    constraint = sequence.constraint
    assert constraint is not None
    assert [token for token in range(97) if constraint.allows(token)] == [7, OPEN]
    assert np.flatnonzero(constraint.mask()).tolist() == [7, OPEN]
    assert np.flatnonzero(constraint.allows_each(np.arange(97))).tolist() == [7, OPEN]
    assert texts(draw(machine, 7)) == [(7, "answer")]
    assert sequence.constraint is matcher
    assert draw(machine, 8)[-1].finish is FinishReason.STOP


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_first_token_opens_or_obeys_whatever_the_model_would_rather_say(temperature: float) -> None:
    logits = torch.zeros(1, 97)
    logits[0, 60], logits[0, OPEN], logits[0, 7] = 9.0, 5.0, 1.0
    for seed in range(20):
        _, sequence = started(THINKING, Spelled((7, 8)), temperature=temperature, seed=seed)
        assert sample_batch(logits.clone(), [sequence])[0] in (7, OPEN)
    _, greedy = started(THINKING, Spelled((7, 8)))
    assert sample_batch(logits.clone(), [greedy]) == [OPEN]


def test_thinking_draws_what_a_free_row_would() -> None:
    logits = torch.randn(1, 97)
    for seed in range(10):
        free, thinking = (started(how, None, temperature=1.0, seed=seed)[1] for how in (None, OPENED))
        assert sample_batch(logits.clone(), [free]) == sample_batch(logits.clone(), [thinking])


@given(st.lists(st.sampled_from([7, 8, 9, OPEN, CLOSE, LINE, EOS]), max_size=12), st.integers(1, 5), st.booleans())
def test_no_answer_ends_well_without_its_grammar(drawn: list[int], budget: int, is_open: bool) -> None:
    """Whatever a model draws inside of its thinking, what follows the close is the grammar's sentence."""
    matcher = Spelled((7, 8))
    machine, sequence = started(replace(THINKING, budget=budget, is_open=is_open), matcher)
    events: list[TokenEvent] = []
    while machine.has_work:
        constraint = sequence.constraint
        token = drawn.pop() if drawn and (constraint is None or constraint.allows(drawn[-1])) else None
        if token is None and constraint is not None:
            token = next(token for token in (7, 8, OPEN) if constraint.allows(token))
        events += draw(machine, 9 if token is None else token)
    answer = [token for token, part in texts(events) if part == TextPart.ANSWER]
    thoughts = [token for token, part in texts(events) if part == TextPart.THINKING]
    assert answer == [7, 8] and events[-1].finish is FinishReason.STOP
    assert len(thoughts) <= budget


async def collect(generation: object) -> list[TokenEvent]:
    return [event async for event in generation]  # type: ignore[attr-defined]


async def test_the_model_goes_on_from_what_the_engine_put(make_engine: MakeEngine) -> None:
    """The close is in the cache as if it had been decoded: the model's own continuation of the same ids follows."""
    engine = make_engine()
    prompt = (11, 12, 13)
    thinking = Thinking(OPEN, CLOSE, (LINE,), (GAP,), budget=4, is_open=True)
    request = GenerationRequest("t", prompt, sampling=SamplingParams(max_tokens=16, ignore_eos=True), thinking=thinking)
    events = await collect(await engine.submit(request))
    ids = [event.token_id for event in events if event.token_id is not None]
    assert ids[4:7] == [LINE, CLOSE, GAP] and len(ids) == 16
    logits = load_reference(engine.config.base)(torch.tensor([[*prompt, *ids]])).logits[0]
    logits[:, 5] = -torch.inf
    best = logits.argmax(-1).tolist()[2:-1]
    assert [token for place, token in enumerate(ids) if place not in (4, 5, 6)] == [
        token for place, token in enumerate(best) if place not in (4, 5, 6)
    ]


async def test_log_probabilities_are_given_for_drawn_tokens_alone(make_engine: MakeEngine) -> None:
    thinking = Thinking(OPEN, CLOSE, (LINE,), (GAP,), budget=1, is_open=True)
    params = SamplingParams(max_tokens=6, logprobs=0, ignore_eos=True)
    request = GenerationRequest("t", (11, 12), sampling=params, thinking=thinking)
    events = await collect(await make_engine().submit(request))
    assert [event.logprobs is not None for event in events[:-1]] == [True, False, False, False, True, True]


async def test_a_budget_below_one_and_marks_beyond_the_vocabulary_are_refused(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for thinking in (replace(THINKING, budget=0), replace(THINKING, close_id=97)):
        with pytest.raises(SamplingInvalid):
            await engine.submit(GenerationRequest("t", (11,), thinking=thinking))
