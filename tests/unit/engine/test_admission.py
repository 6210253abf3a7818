"""Turns of mixtures: round and round, past whoever has no slot, but not for ever, and preempted sequences first."""

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.admission import WaitingRoom
from engine.request import SamplingParams
from engine.sequence import Part, Sequence

SLOTS = 2


def sequence(number: int, experts: str = "") -> Sequence:
    parts = tuple(Part(name, name, 1.0, 0) for name in experts)
    return Sequence(number, (1,), parts, SamplingParams(), None, 10)


def room(*experts: str, max_overtakes: int = 64) -> WaitingRoom:
    """Sequences numbered in the order of their arrival, each with the experts of its word."""
    waiting = WaitingRoom(max_overtakes)
    for number, names in enumerate(experts):
        waiting.add(sequence(number, names))
    return waiting


def admit_all(waiting: WaitingRoom, blocked: str = "") -> list[int]:
    """The order of admission while the experts of `blocked` have no slot."""
    order = []
    while found := waiting.next(lambda generations: not set(blocked) & set(generations)):
        waiting.take(found)
        waiting.check_integrity()
        order.append(found.id)
    return order


def test_groups_take_turns_and_inside_one_the_first_comes_first() -> None:
    assert admit_all(room("a", "a", "a", "b", "ab", "b")) == [0, 3, 4, 1, 5, 2]


def test_the_base_alone_is_a_group_as_well() -> None:
    assert admit_all(room("a", "a", "", "a", "")) == [0, 2, 1, 4, 3]


def test_another_weight_is_the_same_group() -> None:
    waiting = room("a", "a", "b")
    waiting.add(Sequence(3, (1,), (Part("a", "a", 0.5, 0),), SamplingParams(), None, 10))
    assert admit_all(waiting) == [0, 2, 1, 3]


def test_a_group_without_a_slot_does_not_block_the_others() -> None:
    waiting = room("a", "b", "ab", "", "b")
    assert admit_all(waiting, blocked="a") == [1, 3, 4]
    assert admit_all(waiting) == [0, 2]


def test_nobody_overtakes_a_group_that_was_passed_over_often_enough() -> None:
    waiting = room("a", *["b"] * 9, max_overtakes=5)
    assert admit_all(waiting, blocked="a") == [1, 2, 3, 4, 5]
    assert admit_all(waiting) == [0, 6, 7, 8, 9]


def test_a_group_that_was_let_in_can_be_overtaken_again() -> None:
    waiting = room("a", "a", *["b"] * 9, max_overtakes=3)
    assert admit_all(waiting, blocked="a") == [2, 3, 4]
    waiting.take(next(iter(waiting)))
    assert admit_all(waiting, blocked="a") == [5, 6, 7, 8]


def test_nobody_overtakes_a_preempted_sequence() -> None:
    waiting = room("", "b")
    waiting.add_preempted(sequence(8, "a"))
    waiting.add_preempted(sequence(7, "c"))
    assert admit_all(waiting, blocked="a") == [7]
    assert admit_all(waiting) == [8, 0, 1]


def test_who_leaves_early_leaves_no_trace() -> None:
    waiting = room("a", "a", "b")
    waiting.add_preempted(sequence(9))
    for leaving in [found for found in waiting if found.id in (9, 0, 2)]:
        waiting.remove(leaving)
        waiting.check_integrity()
    assert len(waiting) == 1 and admit_all(waiting) == [1]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.sampled_from(["", "a", "b", "c", "d", "ab", "cd", "ad"])),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("admit"), st.just(0)),
    ),
    max_size=120,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.integers(0, 4))
def test_how_often_anybody_is_overtaken_is_bounded(events: list[tuple[str, object]], max_overtakes: int) -> None:
    """A head of a group sees each group before it served once, and out of turn no more than the limit."""
    waiting, running = WaitingRoom(max_overtakes), dict[int, str]()
    num_seen: dict[int, int] = {}
    limits: dict[int, int] = {}
    groups: dict[str, list[int]] = {}

    def has_slots(generations: tuple[str, ...]) -> bool:
        return len({*generations, *"".join(running.values())}) <= SLOTS

    def begin_turn(name: str) -> None:
        head = groups[name][0]
        num_seen[head], limits[head] = 0, max_overtakes + len(groups) - 1

    for number, (event, value) in enumerate(events):
        if event == "arrive":
            name = str(value)
            waiting.add(sequence(number, name))
            groups.setdefault(name, []).append(number)
            if len(groups[name]) == 1:
                begin_turn(name)
        elif event == "end" and running:
            running.pop(list(running)[int(str(value)) % len(running)])
        elif event == "admit" and (found := waiting.next(has_slots)):
            waiting.take(found)
            name = "".join(found.generations)
            running[found.id] = name
            assert groups[name].pop(0) == found.id, "inside a group the first comes first"
            for head in [ids[0] for ids in groups.values() if ids and ids[0] in num_seen]:
                num_seen[head] += 1
                assert num_seen[head] <= limits[head], "starved"
            if groups[name]:
                begin_turn(name)
            else:
                del groups[name]
    running.clear()
    while found := waiting.next(has_slots):
        waiting.take(found)
    assert len(waiting) == 0
