"""Blocks, slots and plans under any order of arrivals, endings and cancellations: integers only."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.config import EngineConfig
from engine.kv_blocks import BlockPool
from engine.request import FinishReason, SamplingParams
from engine.scheduler import Scheduler
from engine.sequence import Part, Sequence
from engine.slots import AdapterSlots

VOCAB, EOS = 50, 1
CONFIG = EngineConfig(
    base=Path(),
    num_slots=2,
    max_batch=4,
    max_step_tokens=16,
    block_size=4,
    max_virtual_tokens=8,
    max_context=40,
)


def sequence(
    number: int, prompt: int = 3, experts: tuple[str, ...] = (), virtual: int = 0, max_tokens: int = 5
) -> Sequence:
    parts = tuple(Part(name, name, 1.0, virtual) for name in experts)
    return Sequence(
        number,
        tuple(range(2, 2 + prompt)),
        parts,
        SamplingParams(max_tokens=max_tokens),
        None,
        CONFIG.max_context,
    )


def scheduler(num_blocks: int = 30) -> Scheduler:
    return Scheduler(CONFIG, BlockPool(num_blocks, CONFIG.block_size), VOCAB, frozenset([EOS]))


def run(machine: Scheduler, token: int = 7, steps: int = 200) -> list[int]:
    """Step until nothing is left; returns the sequence ids in the order of their ends."""
    ended: list[int] = []
    for _ in range(steps):
        if not machine.has_work:
            return ended
        plan = machine.plan()
        assert plan.rows, "work waits and the plan is empty"
        events = machine.commit(plan, {row.sequence_id: token for row in plan.rows if row.samples})
        ended += [number for number, news in events.items() if news[-1].finish]
        machine.check_integrity()
    raise AssertionError("the work never ends")


def test_a_prompt_longer_than_a_step_is_prefilled_in_chunks() -> None:
    machine = scheduler()
    machine.add(sequence(1, prompt=35))
    sizes: list[tuple[int, bool]] = []
    while machine.has_work and len(sizes) < 3:
        plan = machine.plan()
        sizes.append((len(plan.rows[0].token_ids), plan.rows[0].samples))
        machine.commit(plan, {1: 7})
    assert sizes == [(16, False), (16, False), (3, True)]


def test_decoding_rows_are_served_before_a_new_prompt() -> None:
    machine = scheduler()
    machine.add(sequence(1))
    machine.commit(machine.plan(), {1: 7})
    machine.add(sequence(2, prompt=30))
    plan = machine.plan()
    assert [(row.sequence_id, len(row.token_ids)) for row in plan.rows] == [(1, 1), (2, 15)]


def test_a_very_long_prompt_does_not_keep_others_from_starting() -> None:
    """Sixteen positions a step: half for who runs longest, half for the shortest first."""
    machine = scheduler()
    for number, prompt in ((1, 38), (2, 20), (3, 6)):
        machine.add(sequence(number, prompt))
    plan = machine.plan()
    assert [(row.sequence_id, len(row.token_ids), row.samples) for row in plan.rows] == [
        (1, 8, False),
        (3, 6, True),
        (2, 2, False),
    ]


def test_the_longest_running_prompt_gets_on_however_many_short_ones_come() -> None:
    machine = scheduler(num_blocks=40)
    machine.add(sequence(0, prompt=38))
    for step in range(1, 6):
        for other in range(3):
            machine.add(sequence(10 * step + other, prompt=16, max_tokens=1))
        plan = machine.plan()
        assert sum(len(row.token_ids) for row in plan.rows) == CONFIG.max_step_tokens
        assert len(next(row for row in plan.rows if row.sequence_id == 0).token_ids) >= 6
        if machine.commit(plan, {row.sequence_id: 7 for row in plan.rows if row.samples}).get(0):
            return
    raise AssertionError("the long prompt is still being read")


def test_experts_take_turns_however_many_ask_for_one() -> None:
    machine = scheduler(num_blocks=200)
    for number, name in enumerate("aaaaaaaab"):
        machine.add(sequence(number, experts=(name,)))
    assert {row.sequence_id for row in machine.plan().rows} == {0, 1, 2, 8}


def test_virtual_tokens_come_first_and_name_their_slot() -> None:
    machine = scheduler()
    machine.add(sequence(1, experts=("b", "c"), virtual=2))
    ids = machine.plan().rows[0].token_ids
    slot_b, slot_c = machine.slots.slot_of("b"), machine.slots.slot_of("c")
    assert ids[:4] == tuple(VOCAB + slot * 8 + i for slot in (slot_b, slot_c) for i in (0, 1))
    assert ids[4:] == (2, 3, 4)


def test_an_end_token_is_not_shown_and_ends_with_stop() -> None:
    machine = scheduler()
    machine.add(sequence(1))
    [event] = machine.commit(machine.plan(), {1: EOS})[1]
    assert event.token_id is None and event.finish is FinishReason.STOP
    assert not machine.has_work


def test_an_answer_cut_by_its_length_says_so() -> None:
    machine = scheduler()
    machine.add(sequence(1, max_tokens=1))
    shown, end = machine.commit(machine.plan(), {1: 9})[1]
    assert shown.token_id == 9 and end.finish is FinishReason.LENGTH


def test_the_context_ends_an_answer_by_length() -> None:
    machine = scheduler()
    machine.add(sequence(1, prompt=38, max_tokens=100))
    assert run(machine) == [1]


def test_more_experts_than_slots_take_turns_in_order() -> None:
    machine = scheduler()
    for number, name in enumerate("abcabc"):
        machine.add(sequence(number, experts=(name,)))
    assert sorted(run(machine)) == list(range(6))


def test_cancelling_frees_everything_at_once() -> None:
    machine = scheduler()
    machine.add(sequence(1, experts=("a",)))
    machine.add(sequence(2))
    machine.plan()
    assert machine.cancel(1)[0].finish is FinishReason.CANCELLED
    assert machine.cancel(2)[0].finish is FinishReason.CANCELLED
    assert machine.cancel(2) == []
    assert machine.blocks.num_free == 30 and not machine.has_work


def test_a_full_cache_preempts_the_youngest_and_loses_nothing() -> None:
    machine = scheduler(num_blocks=10)
    for number in range(4):
        machine.add(sequence(number, prompt=8, experts=("a",), max_tokens=20))
    assert sorted(run(machine)) == [0, 1, 2, 3]
    assert machine.num_preemptions > 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.sets(st.sampled_from("abcd"), max_size=2), st.integers(1, 12)),
        max_size=12,
    ),
    st.integers(10, 40),
)
def test_all_that_arrives_ends_and_everything_is_given_back(
    arrivals: list[tuple[int, set[str], int]], num_blocks: int
) -> None:
    machine = scheduler(num_blocks)
    for number, (prompt, experts, max_tokens) in enumerate(arrivals):
        machine.add(sequence(number, prompt, tuple(sorted(experts)), 1, max_tokens))
    assert sorted(run(machine, steps=2000)) == list(range(len(arrivals)))
    assert machine.blocks.num_free == num_blocks


class SlotMachine(RuleBasedStateMachine):
    """Acquire and release in any order: never a slot twice, never a pinned adapter evicted."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = AdapterSlots(3)
        self.held: list[tuple[str, ...]] = []
        self.content: dict[int, str] = {}

    @rule(wanted=st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3))
    def acquire(self, wanted: set[str]) -> None:
        names = tuple(sorted(wanted))
        pinned = {name for held in self.held for name in held}
        assert self.slots.can_acquire(names) == (len(pinned | wanted) <= 3)
        if self.slots.can_acquire(names):
            self.content.update(self.slots.acquire(names))
            self.held.append(names)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        self.slots.release(self.held.pop(data.draw(st.integers(0, len(self.held) - 1))))

    @invariant()
    def what_is_in_use_is_where_the_table_says(self) -> None:
        self.slots.check_integrity()
        for name in {name for held in self.held for name in held}:
            assert self.content[self.slots.slot_of(name)] == name


TestSlots = SlotMachine.TestCase
TestSlots.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_the_least_recently_used_adapter_gives_way() -> None:
    slots = AdapterSlots(2)
    for name in ("a", "b", "a"):
        slots.acquire([name])
        slots.release([name])
    slots.acquire(["c"])
    assert set(slots.resident) == {"a", "c"}


def test_answers_wait_for_one_requests_copies_at_a_time_and_an_idle_engine_takes_all_at_once() -> None:
    machine = scheduler()
    for number, expert in enumerate(("a", "b")):
        machine.add(sequence(number, experts=(expert,), max_tokens=20))
    first = machine.plan()
    assert len(first.uploads) == 2 and len(first.rows) == 2, "nobody is being answered yet"
    run(machine, steps=60)
    machine.add(sequence(5))
    machine.commit(machine.plan(), {5: 7})
    for number, experts in ((6, ("c",)), (7, ("d",)), (8, ("d",))):
        machine.add(sequence(number, experts=experts))
    plans = []
    for _ in range(2):
        plans.append(plan := machine.plan())
        machine.commit(plan, {row.sequence_id: 7 for row in plan.rows if row.samples})
    assert [[upload.generation for upload in plan.uploads] for plan in plans] == [["c"], ["d"]]
    assert all(5 in {row.sequence_id for row in plan.rows} for plan in plans)


def test_a_retired_adapter_leaves_its_slot_when_its_last_user_ends_and_not_before() -> None:
    slots = AdapterSlots(2)
    slots.acquire(["a", "b"])
    slots.release(["b"])
    for name in ("a", "b", "never there"):
        slots.retire(name)
    freed = slots.take_freed()
    assert len(freed) == 1 and list(slots.resident) == ["a"]
    slots.release(["a"])
    assert [len(slots.take_freed()), len(slots.take_freed()), len(slots.resident)] == [1, 0, 0]
    slots.check_integrity()


def test_an_eviction_forgets_that_an_adapter_was_to_be_retired() -> None:
    slots = AdapterSlots(1)
    slots.acquire(["a"])
    slots.retire("a")
    slots.release(["a"])
    slots.acquire(["b"])
    assert slots.take_freed() == [] and slots.resident == ("b",) and slots.evictions == 1
    slots.check_integrity()
