"""Twenty thousand steps of the scheduler alone, against a KV cache of plain integers that the test keeps itself.

The cache says for every position which content was written there: one integer per chain of mixture, salt and tokens.
What a row is going to read has to be exactly its own chain, wherever it came from.
"""

import random
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config import EngineConfig
from engine.kv_blocks import BlockPool
from engine.plan import Row, StepPlan
from engine.request import FinishReason, SamplingParams
from engine.scheduler import Scheduler
from engine.sequence import Part, Sequence

STEPS = 2500
VOCAB, EOS = 40, 1
SIZE, BLOCKS = 4, 24
CONFIG = EngineConfig(
    base=Path(),
    num_slots=3,
    max_batch=6,
    max_step_tokens=20,
    block_size=SIZE,
    max_virtual_tokens=4,
    max_context=48,
)
MIXTURES = ["", "", "a", "a", "a", "b", "b", "c", "c", "d", "e", "f", "ab", "ba", "abc", "def"]
NUM_VIRTUAL = {"b": 1, "c": 3, "e": 4}
MAX_BACKLOG = 24
MAX_OVERTAKES = 6
MAX_STEPS = 500
"""In which a sequence has to end: a backlog of 24 by at most 48 steps each, about four at a time, some of it twice."""


class Babbler:
    """A grammar that allows everything and forces a few tokens now and then."""

    is_complete = must_stop = False

    def __init__(self, draw: random.Random) -> None:
        self.random, self.is_closed = draw, False

    def allows(self, token_id: int) -> bool:
        return token_id != EOS

    def allows_each(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        allowed: NDArray[np.bool_] = token_ids != EOS
        return allowed

    def hot_mask(self) -> NDArray[np.bool_] | None:
        return None

    def mask(self) -> NDArray[np.bool_]:
        return self.allows_each(np.arange(VOCAB))

    def forced_tokens(self) -> list[int]:
        return [self.random.randrange(2, 6) for _ in range(self.random.choice([0, 0, 1, 3, 9]))]

    def accept(self, token_id: int) -> None:
        assert self.allows(token_id) and not self.is_closed

    def close(self) -> None:
        self.is_closed = True


class World:
    """Clients, weights and a device in integers, around one scheduler."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.machine = Scheduler(CONFIG, BlockPool(BLOCKS, SIZE), VOCAB, frozenset([EOS]))
        self.machine.waiting.max_overtakes = MAX_OVERTAKES
        self.stems = [[self.random.randrange(2, VOCAB) for _ in range(24)] for _ in range(3)]
        self.recent: list[tuple[tuple[int, ...], tuple[Part, ...], str]] = []
        """What the last clients asked; others ask the same, also of weights that have been replaced since."""
        self.versions = Counter[str]()
        self.live: dict[int, Sequence] = {}
        self.arrived: dict[int, int] = {}
        self.ends = Counter[str]()
        self.longest = 0
        self.slots: dict[int, str] = {}
        self.cache: dict[int, list[int]] = {block: [-1] * SIZE for block in range(BLOCKS)}
        self.contents: dict[object, int] = {}
        self.position: dict[int, tuple[int, int]] = {}
        """By sequence: preemptions so far, and positions computed since the last of them."""

    def arrive(self, number: int, now: int) -> None:
        draw = self.random
        if not self.recent or draw.random() < 0.6:
            self.recent = [*self.recent[-2:], self.ask()]
        prompt, parts, salt = draw.choice(self.recent)
        sequence = Sequence(
            number,
            prompt,
            parts,
            SamplingParams(max_tokens=draw.randint(1, 30)),
            draw.choice([None, None, Babbler(draw)]),
            CONFIG.max_context,
            salt,
            deadline_s=draw.choice([None, None, None, draw.randint(0, 80)]),
            submitted=float(now),
        )
        self.live[number], self.arrived[number] = sequence, now
        self.machine.add(sequence)

    def ask(self) -> tuple[tuple[int, ...], tuple[Part, ...], str]:
        draw = self.random
        parts = tuple(self.part(name, draw.choice([1.0, 1.0, 0.5])) for name in draw.choice(MIXTURES))
        tail = [draw.randrange(2, 6) for _ in range(draw.randint(0, 4))]
        prompt = (7, *draw.choice(self.stems)[: draw.choice([0, 3, 7, 12, 24])], *tail)
        return prompt, parts, draw.choice(["", "", "tenant"])

    def part(self, name: str, weight: float) -> Part:
        generation = f"{name}@{self.versions[name]}"
        return Part(generation, name, weight, NUM_VIRTUAL.get(name, 0))

    def ended(self, number: int, how: str, now: int) -> None:
        self.longest = max(self.longest, now - self.arrived[number])
        del self.live[number]
        self.ends[how] += 1

    def step(self, now: int) -> None:
        for number, fault in self.machine.expire(now).items():
            assert now - self.arrived[number] >= fault.deadline_s
            self.ended(number, "late", now)
        assert not any(sequence.is_late(now) for sequence in self.live.values())
        if not self.machine.has_work:
            return
        plan = self.machine.plan()
        self.machine.check_integrity()
        self.check(plan)
        self.write(plan)
        tokens = {row.sequence_id: self.token() for row in plan.rows if row.samples}
        for number, events in self.machine.commit(plan, tokens).items():
            if events[-1].finish:
                self.ended(number, events[-1].finish, now)
        self.machine.check_integrity()
        assert all(now - self.arrived[number] < MAX_STEPS for number in self.live), "somebody starves"

    def token(self) -> int:
        return EOS if self.random.random() < 0.05 else self.random.randrange(2, 6)

    def check(self, plan: StepPlan) -> None:
        """Budgets, who may write where, and row by row what is fed and what is read."""
        assert plan.rows and all(row.token_ids for row in plan.rows)
        assert sum(len(row.token_ids) for row in plan.rows) <= CONFIG.max_step_tokens
        assert len({row.sequence_id for row in plan.rows}) == len(plan.rows) <= CONFIG.max_batch
        self.slots.update((upload.slot, upload.generation) for upload in plan.uploads)
        running = self.machine.running
        assert len({part.generation for sequence in running for part in sequence.parts}) <= CONFIG.num_slots
        tables = [sequence.block_table for sequence in running]
        users = Counter(chain.from_iterable(tables))
        for sequence in running:
            assert len(sequence.block_table) == -(-sequence.length // SIZE)
            assert all(users[block] == 1 for block in sequence.block_table[sequence.num_computed // SIZE :]), "shared"
        for row in plan.rows:
            self.check_row(row, self.live[row.sequence_id])

    def check_row(self, row: Row, sequence: Sequence) -> None:
        end = row.start + len(row.token_ids)
        assert [(self.slots[slot], weight) for slot, weight in row.mixture] == mixture_of(sequence)
        assert [self.meaning(token) for token in row.token_ids] == tokens_of(sequence)[row.start : end]
        assert row.samples == (end == sequence.length)
        preemptions, position = self.position.get(row.sequence_id, (0, 0))
        position = position if preemptions == sequence.num_preemptions else 0
        assert row.start == position or (row.start > position and row.start % SIZE == position % SIZE == 0), "fed twice"
        self.position[row.sequence_id] = (sequence.num_preemptions, end)
        found = [self.cache[row.block_table[at // SIZE]][at % SIZE] for at in range(row.start)]
        assert found == self.chain_of(sequence)[: row.start], "a row would read what is not its own"

    def write(self, plan: StepPlan) -> None:
        for row in plan.rows:
            content = self.chain_of(self.live[row.sequence_id])
            for at in range(row.start, row.start + len(row.token_ids)):
                self.cache[row.block_table[at // SIZE]][at % SIZE] = content[at]

    def meaning(self, token: int) -> object:
        """A token id as the device understands it: virtual ones by what is in the slot now."""
        if token < VOCAB:
            return token
        slot, index = divmod(token - VOCAB, CONFIG.max_virtual_tokens)
        return self.slots[slot], index

    def chain_of(self, sequence: Sequence) -> list[int]:
        """One integer per position, for all that its keys and values depend on."""
        found: list[int] = []
        before: object = (sequence.salt, tuple(mixture_of(sequence)))
        for token in tokens_of(sequence):
            before = self.contents.setdefault((before, token), len(self.contents))
            found.append(before)
        return found


def mixture_of(sequence: Sequence) -> list[tuple[str, float]]:
    return [(part.generation, part.weight) for part in sequence.parts]


def tokens_of(sequence: Sequence) -> list[object]:
    virtual = [(part.generation, index) for part in sequence.parts for index in range(part.num_virtual)]
    return [*virtual, *sequence.prompt_ids, *sequence.output_ids]


@pytest.mark.parametrize("seed", range(8))
def test_every_row_reads_its_own_content_and_everybody_ends(seed: int) -> None:
    """Random arrivals, mixtures, tenants, cancellations, deadlines and new weights, with too few blocks and slots."""
    world = World(seed)
    draw = world.random
    for now in range(STEPS):
        while len(world.machine.waiting) < MAX_BACKLOG and draw.random() < 0.3:
            world.arrive(len(world.arrived), now)
        if draw.random() < 0.02 and world.live:
            number = draw.choice(list(world.live))
            [end] = world.machine.cancel(number)
            assert end.finish is FinishReason.CANCELLED and world.machine.cancel(number) == []
            world.ended(number, end.finish, now)
        if draw.random() < 0.05:
            world.versions[draw.choice("abcdef")] += 1
        world.step(now)
    for now in range(STEPS, STEPS + MAX_STEPS):
        world.step(now)
    assert not world.live and not world.machine.has_work
    assert world.machine.blocks.num_free == BLOCKS
    assert world.ends.total() == len(world.arrived) > 300
    assert set(world.ends) == {"stop", "length", "cancelled", "late"}
    assert world.machine.prefix_hits_tokens > 1000 and world.machine.num_preemptions > 20
