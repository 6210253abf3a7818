"""Decides what each step computes: admission, chunked prefill, preemption, the end of a sequence. No tensors.

Every running sequence has positions that are not yet in the cache: all of its prompt at first, one token later.
A step feeds each as many of them as the budget allows, decoding rows first; a row that reaches its end is sampled.
"""

import time
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType

from engine.config import EngineConfig
from engine.kv_blocks import BlockPool
from engine.plan import Row, StepPlan, Upload
from engine.request import FinishReason, TokenEvent, TokenLogprobs
from engine.sequence import Sequence
from engine.slots import AdapterSlots

NO_LOGPROBS: Mapping[int, TokenLogprobs] = MappingProxyType({})


class Scheduler:
    """Owns the queues, the block pool and the slot table; the engine thread is its only caller."""

    def __init__(self, config: EngineConfig, blocks: BlockPool, vocab_size: int, eos_ids: frozenset[int]) -> None:
        self.config, self.blocks, self.vocab_size, self.eos_ids = config, blocks, vocab_size, eos_ids
        self.slots = AdapterSlots(config.num_slots)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = 0

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def plan(self) -> StepPlan:
        """The next step. Admits from the queue in order; takes blocks for every position that it plans."""
        uploads: list[Upload] = []
        rows: list[Row] = []
        budget = self.config.max_step_tokens
        for sequence in sorted(self.running, key=lambda s: s.length - s.num_computed > 1):
            if sequence not in self.running:  # preempted by a row before it
                continue
            row = self._row(sequence, budget)
            if row:
                rows.append(row)
                budget -= len(row.token_ids)
        while budget > 0 and (admitted := self._admit(uploads)):
            row = self._row(admitted, budget)
            if row:
                rows.append(row)
                budget -= len(row.token_ids)
        rows = [row for row in rows if any(s.id == row.sequence_id for s in self.running)]
        return StepPlan(tuple(rows), tuple(uploads))

    def commit(
        self, plan: StepPlan, tokens: Mapping[int, int], logprobs: Mapping[int, TokenLogprobs] = NO_LOGPROBS
    ) -> dict[int, list[TokenEvent]]:
        """Record what the step computed and drew, by sequence id; returns the events of each that drew."""
        now = time.monotonic()
        by_id = {sequence.id: sequence for sequence in self.running}
        events: dict[int, list[TokenEvent]] = {}
        for row in plan.rows:
            sequence = by_id[row.sequence_id]
            sequence.num_computed += len(row.token_ids)
            if row.samples and sequence.id in tokens:
                events[sequence.id] = self._advance(sequence, tokens[sequence.id], logprobs.get(sequence.id), now)
        return events

    def cancel(self, sequence_id: int) -> list[TokenEvent]:
        """End a sequence now and free what it holds; no events if it has already ended."""
        for sequence in [*self.waiting, *self.running]:
            if sequence.id == sequence_id:
                return [self._end(sequence, FinishReason.CANCELLED, time.monotonic())]
        return []

    def drop(self, sequence: Sequence) -> None:
        """Free all that a sequence holds and forget it."""
        if sequence in self.running:
            self.running.remove(sequence)
            self.slots.release(sequence.generations)
            self.blocks.release(sequence.block_table)
        else:
            self.waiting.remove(sequence)
        if sequence.matcher:
            sequence.matcher.close()

    def check_integrity(self) -> None:
        self.slots.check_integrity()
        self.blocks.check_integrity([sequence.block_table for sequence in self.running])

    def _admit(self, uploads: list[Upload]) -> Sequence | None:
        """Move the first waiting sequence to the running ones if a place, blocks and slots are free."""
        if not self.waiting or len(self.running) >= self.config.max_batch:
            return None
        sequence = self.waiting[0]
        if self.blocks.blocks_for(sequence.length) > self.blocks.num_free:
            return None
        needed = self.slots.acquire(sequence.generations)
        if needed is None:
            return None
        uploads += [Upload(slot, generation, sequence.id) for slot, generation in needed]
        self.waiting.popleft()
        self.running.append(sequence)
        sequence.admitted = sequence.admitted or time.monotonic()
        return sequence

    def _row(self, sequence: Sequence, budget: int) -> Row | None:
        start = sequence.num_computed
        end = min(sequence.length, start + budget)
        if end == start or not self._make_room(sequence, end):
            return None
        mixture = tuple((self.slots.slot_of(part.generation), part.weight) for part in sequence.parts)
        ids = self._token_ids(sequence, start, end)
        return Row(sequence.id, ids, start, tuple(sequence.block_table), mixture, samples=end == sequence.length)

    def _token_ids(self, sequence: Sequence, start: int, end: int) -> tuple[int, ...]:
        virtual = [
            self.vocab_size + self.slots.slot_of(part.generation) * self.config.max_virtual_tokens + index
            for part in sequence.parts
            for index in range(part.num_virtual)
        ]
        return tuple([*virtual, *sequence.prompt_ids, *sequence.output_ids][start:end])

    def _make_room(self, sequence: Sequence, end: int) -> bool:
        """Blocks for positions up to `end`; the youngest running sequences give up theirs if none are free."""
        while not self.blocks.grow(sequence.block_table, end):
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False
        return True

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the head of the queue; its cache is computed again when it returns."""
        self.running.remove(sequence)
        self.blocks.release(sequence.block_table)
        self.slots.release(sequence.generations)
        sequence.num_computed = 0
        self.waiting.appendleft(sequence)
        self.num_preemptions += 1

    def _advance(self, sequence: Sequence, token: int, logprobs: TokenLogprobs | None, now: float) -> list[TokenEvent]:
        """Append a drawn token, move the grammar, and end the sequence where it ends."""
        sequence.first_token = sequence.first_token or now
        if token in self.eos_ids or token in sequence.sampling.stop_ids:
            return [self._end(sequence, FinishReason.STOP, now)]
        sequence.output_ids.append(token)
        if sequence.matcher:
            sequence.matcher.accept(token)
        events = [TokenEvent(token, logprobs)]
        if sequence.matcher and sequence.matcher.must_stop:
            events.append(self._end(sequence, FinishReason.STOP, now))
        elif len(sequence.output_ids) >= sequence.sampling.max_tokens or sequence.length >= sequence.max_length:
            events.append(self._end(sequence, FinishReason.LENGTH, now))
        return events

    def _end(self, sequence: Sequence, reason: FinishReason, now: float) -> TokenEvent:
        sequence.finish = reason
        timings = sequence.timings(now)
        self.drop(sequence)
        return TokenEvent(finish=reason, timings=timings)
