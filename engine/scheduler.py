"""Decides what each step computes: admission, chunked prefill, preemption, the end of a sequence. No tensors.

Every running sequence has positions that are not yet in the cache: all of its prompt at first, one token later.
A step feeds each as many of them as the budget allows, decoding rows first; a row that reaches its end is sampled.
"""

import time
from collections.abc import Iterator, Mapping
from itertools import chain
from types import MappingProxyType

from engine.admission import WaitingRoom
from engine.config import EngineConfig
from engine.errors import DeadlineExceeded
from engine.kv_blocks import BlockPool
from engine.plan import Row, StepPlan, Upload
from engine.prefix_hash import extend_hashes
from engine.request import FinishReason, TextPart, TokenEvent, TokenLogprobs
from engine.sequence import Sequence
from engine.slots import AdapterSlots
from engine.thinking import Taken

NO_LOGPROBS: Mapping[int, TokenLogprobs] = MappingProxyType({})


class Scheduler:
    """Owns the queues, the block pool and the slot table; the engine thread is its only caller."""

    def __init__(self, config: EngineConfig, blocks: BlockPool, vocab_size: int, eos_ids: frozenset[int]) -> None:
        self.config, self.blocks, self.vocab_size, self.eos_ids = config, blocks, vocab_size, eos_ids
        self.slots = AdapterSlots(config.num_slots)
        self.waiting = WaitingRoom()
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self.prefix_hits_tokens = 0
        self.num_forced_tokens = 0
        """Tokens that sequences got and nobody drew."""

    @property
    def has_work(self) -> bool:
        return bool(len(self.waiting) or self.running)

    def add(self, sequence: Sequence) -> None:
        self.waiting.add(sequence)

    def plan(self) -> StepPlan:
        """The next step. What runs has blocks for all of its positions before anybody is admitted."""
        uploads: list[Upload] = []
        self._make_room()
        is_answering = bool(self.running)
        while self._admit(uploads, may_swap=not (uploads and is_answering)):
            pass
        for sequence in self.running:
            self._adopt(sequence)
        rows = [self._row(sequence, count) for sequence, count in self._shares().items()]
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
            self._register(sequence, row.start)
            if row.samples and sequence.id in tokens:
                events[sequence.id] = self._advance(sequence, tokens[sequence.id], logprobs.get(sequence.id), now)
        return events

    def cancel(self, sequence_id: int) -> list[TokenEvent]:
        """End a sequence now and free what it holds; no events if it has already ended."""
        for sequence in [*self.waiting, *self.running]:
            if sequence.id == sequence_id:
                return [self._end(sequence, FinishReason.CANCELLED, time.monotonic())]
        return []

    def expire(self, now: float) -> dict[int, DeadlineExceeded]:
        """End every sequence whose deadline has passed at `now`, a time.monotonic(); what to say, by sequence id."""
        late = [sequence for sequence in (*self.waiting, *self.running) if sequence.is_late(now)]
        for sequence in late:
            self.drop(sequence)
        return {sequence.id: _too_late(sequence) for sequence in late}

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
        self.waiting.check_integrity()
        self.slots.check_integrity()
        self.blocks.check_integrity([sequence.block_table for sequence in self.running])

    def _admit(self, uploads: list[Upload], may_swap: bool) -> bool:
        """Start the sequence whose turn it is, if a place and blocks are free; nobody overtakes for lack of these.

        While others are being answered, one that needs a swap after another's waits for the next step, so that the
        answers wait for one request's copies at a time and not for a crowd's.
        """
        if len(self.running) >= self.config.max_batch:
            return False
        sequence = self.waiting.next(self.slots.can_acquire)
        if sequence is None or not (may_swap or self.slots.holds(sequence.generations)):
            return False
        if not self._take_blocks(sequence):
            return False
        needed = self.slots.acquire(sequence.generations)
        uploads += [Upload(slot, generation, sequence.id) for slot, generation in needed]
        self.waiting.take(sequence)
        self.running.append(sequence)
        sequence.admitted = sequence.admitted or time.monotonic()
        return True

    def _take_blocks(self, sequence: Sequence) -> bool:
        """The longest cached prefix, and blocks for all other known positions; nothing if they are not free."""
        found = self.blocks.find(self._findable(sequence))
        if not self.blocks.allocate(sequence.block_table, found, sequence.length):
            return False
        self._count_hits(sequence, len(found))
        return True

    def _adopt(self, sequence: Sequence) -> None:
        """Take over what others have computed since the admission of a prompt that is not read to its end."""
        start, offset = divmod(sequence.num_computed, self.blocks.block_size)
        if offset:
            return
        found = self.blocks.find(self._findable(sequence)[start:])
        self.blocks.replace(sequence.block_table, start, found)
        self._count_hits(sequence, len(found))

    def _findable(self, sequence: Sequence) -> list[bytes]:
        """Hashes of the full blocks that it may share: at least one position is left to compute, to draw from."""
        if not self.config.prefix_cache:
            return []
        size = self.blocks.block_size
        return extend_hashes(sequence, (sequence.length - 1) // size, size)

    def _count_hits(self, sequence: Sequence, num_blocks: int) -> None:
        found = num_blocks * self.blocks.block_size
        sequence.num_computed += found
        self.prefix_hits_tokens += found
        if not sequence.num_preemptions:
            sequence.num_cached = min(sequence.num_cached + found, sequence.num_prompt)

    def _register(self, sequence: Sequence, start: int) -> None:
        """Make the blocks findable that a step filled from position `start` on."""
        if not self.config.prefix_cache:
            return
        size = self.blocks.block_size
        first, last = start // size, sequence.num_computed // size
        hashes = extend_hashes(sequence, last, size)
        for block, digest in zip(sequence.block_table[first:last], hashes[first:], strict=True):
            self.blocks.register(block, digest)

    def _shares(self) -> dict[Sequence, int]:
        """How many positions each running sequence computes in this step.

        Who decodes needs one and gets it. Half of the rest is for the prompt that has been running longest, so that it
        ends; the other half for the shortest first, so that a very long one does not keep those from starting.
        """
        missing = {sequence: sequence.length - sequence.num_computed for sequence in self.running}
        shares = {sequence: 1 for sequence, count in missing.items() if count == 1}
        prompts = [sequence for sequence in self.running if sequence not in shares]
        budget = self.config.max_step_tokens - len(shares)
        for sequence in prompts[:1]:
            shares[sequence] = min(missing[sequence], -(-budget // 2))
            budget -= shares[sequence]
        for sequence in sorted(prompts, key=lambda s: missing[s] - shares.get(s, 0)):
            count = min(missing[sequence] - shares.get(sequence, 0), budget)
            if count:
                shares[sequence] = shares.get(sequence, 0) + count
                budget -= count
        return shares

    def _row(self, sequence: Sequence, count: int) -> Row:
        start, end = sequence.num_computed, sequence.num_computed + count
        mixture = tuple((self.slots.slot_of(part.generation), part.weight) for part in sequence.parts)
        ids = self._token_ids(sequence, start, end)
        return Row(sequence.id, ids, start, tuple(sequence.block_table), mixture, samples=end == sequence.length)

    def _token_ids(self, sequence: Sequence, start: int, end: int) -> tuple[int, ...]:
        virtual = (
            self.vocab_size + self.slots.slot_of(part.generation) * self.config.max_virtual_tokens + index
            for part, index in sequence.virtual_tokens(start, end)
        )
        return (*virtual, *sequence.real_tokens(start, end))

    def _make_room(self) -> None:
        """Blocks for every running sequence, oldest first; the youngest give up theirs where none are free."""
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            if self.blocks.grow(sequence.block_table, sequence.length):
                index += 1
            else:
                self._preempt(self.running[-1])

    def _preempt(self, sequence: Sequence) -> None:
        """Back to the head of the queue; what is no longer in the cache when it returns is computed again."""
        self.running.remove(sequence)
        self.blocks.release(sequence.block_table)
        self.slots.release(sequence.generations)
        sequence.num_computed = 0
        sequence.num_preemptions += 1
        self.waiting.add_preempted(sequence)
        self.num_preemptions += 1

    def _advance(self, sequence: Sequence, token: int, logprobs: TokenLogprobs | None, now: float) -> list[TokenEvent]:
        """Append a drawn token and what follows from it, and end the sequence where it ends."""
        sequence.first_token = sequence.first_token or now
        is_end = token in self.eos_ids
        if not sequence.is_thinking and (is_end or token in sequence.sampling.stop_ids):
            return [self._end(sequence, FinishReason.STOP, now)]
        events: list[TokenEvent] = []
        for taken, part in chain(sequence.take(token, is_end), self._forced(sequence)):
            is_drawn = taken == token and not events
            events.append(TokenEvent(taken, logprobs if is_drawn else None, part))
            self.num_forced_tokens += not is_drawn
            if reason := _append(sequence, taken, part):
                return [*events, self._end(sequence, reason, now)]
        return events

    def _forced(self, sequence: Sequence) -> Iterator[Taken]:
        """Tokens of the answer that the grammar leaves no choice about: the next step reads them like a prompt.

        Where log-probabilities are asked for every token is drawn, since only those have one; so is a token that the
        request says something about, since the model may have another way to spell the text.
        """
        matcher = sequence.matcher
        if matcher and sequence.is_answering and self.config.is_jumping and sequence.sampling.logprobs is None:
            steered = {*sequence.sampling.stop_ids, *(token for token, _ in sequence.sampling.logit_bias)}
            for token in matcher.forced_tokens():
                if token in steered or not matcher.allows(token):
                    return
                yield token, TextPart.ANSWER

    def _end(self, sequence: Sequence, reason: FinishReason, now: float) -> TokenEvent:
        sequence.finish = reason
        timings = sequence.timings(now)
        self.drop(sequence)
        return TokenEvent(finish=reason, timings=timings)


def _append(sequence: Sequence, token: int, part: TextPart) -> FinishReason | None:
    """Move the sequence and its grammar by a token; why it ends there, if it does."""
    sequence.output_ids.append(token)
    if sequence.matcher and part is TextPart.ANSWER:
        sequence.matcher.accept(token)
        if sequence.matcher.must_stop:
            return FinishReason.STOP
    is_full = len(sequence.output_ids) >= sequence.sampling.max_tokens or sequence.length >= sequence.max_length
    return FinishReason.LENGTH if is_full else None


def _too_late(sequence: Sequence) -> DeadlineExceeded:
    assert sequence.deadline_s is not None
    return DeadlineExceeded(sequence.deadline_s, len(sequence.output_ids) if sequence.admitted else None)
