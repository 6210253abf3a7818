"""Who is admitted next: a round over the mixtures that wait. Integers and names only.

The sequences that wait are grouped by the generations they use; those of the base alone are a group as well. Admission
goes round the groups, first come, first served inside each, so a popular expert delays the others by its turn and not
by its queue. A group whose slots are taken is passed over, but only MAX_OVERTAKES times: then nobody overtakes it
until it is in, and slots come free as running sequences end. Preempted sequences precede everybody; nobody
overtakes them at all, since somebody is reading their answers already.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from engine.sequence import Sequence

MAX_OVERTAKES = 64


@dataclass(slots=True)
class _Group:
    members: deque[Sequence] = field(default_factory=deque)
    num_overtakes: int = 0
    """Admissions of others out of turn since this group's turn came."""


class WaitingRoom:
    """The queue of the scheduler. Only `len` may be asked from another thread."""

    def __init__(self, max_overtakes: int = MAX_OVERTAKES) -> None:
        self.max_overtakes = max_overtakes
        self._preempted: deque[Sequence] = deque()
        self._groups: OrderedDict[tuple[str, ...], _Group] = OrderedDict()  # the next to be served first
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sequence]:
        yield from self._preempted
        for group in self._groups.values():
            yield from group.members

    def add(self, sequence: Sequence) -> None:
        """A group that is new, or was empty, joins the round at its end."""
        self._groups.setdefault(sequence.generations, _Group()).members.append(sequence)
        self._length += 1

    def add_preempted(self, sequence: Sequence) -> None:
        self._preempted.appendleft(sequence)
        self._length += 1

    def next(self, has_slots: Callable[[tuple[str, ...]], bool]) -> Sequence | None:
        """Whose turn it is among those that have slots; None if whoever may not be overtaken has none."""
        if self._preempted:
            first = self._preempted[0]
            return first if has_slots(first.generations) else None
        for generations, group in self._groups.items():
            if has_slots(generations):
                return group.members[0]
            if group.num_overtakes >= self.max_overtakes:
                return None
        return None

    def take(self, sequence: Sequence) -> None:
        """Remove what `next` named; its group goes to the end of the round."""
        self._length -= 1
        if self._preempted:
            self._preempted.popleft()
            return
        for generations, group in self._groups.items():
            if generations == sequence.generations:
                break
            group.num_overtakes += 1
        group = self._groups.pop(sequence.generations)
        group.members.popleft()
        if group.members:
            self._groups[sequence.generations] = _Group(group.members)

    def remove(self, sequence: Sequence) -> None:
        """Take out a sequence that ends before its turn."""
        self._length -= 1
        if sequence in self._preempted:
            self._preempted.remove(sequence)
            return
        members = self._groups[sequence.generations].members
        members.remove(sequence)
        if not members:
            del self._groups[sequence.generations]

    def check_integrity(self) -> None:
        assert self._length == sum(1 for _ in self), "the queue is miscounted"
        assert all(group.members for group in self._groups.values()), "an empty group takes turns"
        assert all(s.generations == key for key, group in self._groups.items() for s in group.members), "a wrong group"
