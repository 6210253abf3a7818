"""Machines: conditions on a text that are checked character by character.

An expression that has to match, its opposite, and bounds on the length; `decimal_machines` has those over numbers.
`automaton` runs several side by side.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from grammars.errors import AutomatonTooLarge
from grammars.regex_tree import Chars, Choice, Concat, End, Node, Repeat, Start
from grammars.spelling import Ranges

MAX_POSITIONS: Final = 8_000  # of one expression
_MAX_ROWS: Final = 4_000  # remembered

State: TypeAlias = Hashable
DEAD: Final = None
_AT_START: Final = -1  # beside an expression's states, before the first character


class Machine(Protocol):
    """One condition on texts. Its states are hashable; None is the state from which nothing is accepted."""

    @property
    def cuts(self) -> frozenset[int]:
        """Code points at which the machine may begin to behave otherwise."""

    @property
    def start(self) -> State: ...

    def step(self, state: State, point: int) -> State: ...

    def accepts(self, state: State) -> bool: ...


class Expression:
    """An expression as Thompson's automaton, run as sets of its states."""

    def __init__(self, node: Node) -> None:
        self._free: list[list[int]] = []  # by state: states reached without a character
        self._start_only: list[list[int]] = []  # and only at the beginning of the text
        self._end_only: list[list[int]] = []  # and only at its end
        self._moves: list[tuple[Ranges, int] | None] = []
        first, self._last = self._build(node)
        self.start: State = self._closure((first,), self._free, self._start_only) | {_AT_START}
        self.cuts = frozenset(cut for move in self._moves if move for low, high in move[0] for cut in (low, high + 1))
        self._rows: dict[State, tuple[list[int], list[State]]] = {}
        self._closures: dict[frozenset[int], State] = {}

    @staticmethod
    @lru_cache(maxsize=512)
    def of(node: Node) -> "Expression":
        return Expression(node)

    def step(self, state: State, point: int) -> State:
        assert isinstance(state, frozenset)
        if state not in self._rows:
            if len(self._rows) > _MAX_ROWS:
                self._rows.clear()
            self._rows[state] = self._row(state)
        firsts, targets = self._rows[state]
        return targets[bisect_right(firsts, point) - 1]

    def _row(self, state: frozenset[int]) -> tuple[list[int], list[State]]:
        """Where the characters begin that lead elsewhere, in order, and where they lead."""
        moves = [move for inner in state if inner != _AT_START and (move := self._moves[inner])]
        opening: dict[int, list[int]] = {0: []}
        for ranges, target in moves:
            for low, high in ranges:
                opening.setdefault(low, []).append(target)
                opening.setdefault(high + 1, []).append(~target)  # its end
        open_now: Counter[int] = Counter()
        firsts = sorted(opening)
        targets: list[State] = []
        for first in firsts:
            for target in opening[first]:
                open_now[max(target, ~target)] += 1 if target >= 0 else -1
            reached = frozenset(target for target, count in open_now.items() if count)
            if reached not in self._closures:
                self._closures[reached] = self._closure(reached, self._free) if reached else DEAD
            targets.append(self._closures[reached])
        return firsts, targets

    def accepts(self, state: State) -> bool:
        assert isinstance(state, frozenset)
        if self._last in state:
            return True
        # An empty text is at its beginning and at its end at once.
        at_start = (self._start_only,) if _AT_START in state else ()
        return self._last in self._closure(state - {_AT_START}, self._free, self._end_only, *at_start)

    def _closure(self, states: Iterable[int], *tables: list[list[int]]) -> frozenset[int]:
        found = set(states)
        waiting = list(found)
        while waiting:
            state = waiting.pop()
            for table in tables:
                for target in table[state]:
                    if target not in found:
                        found.add(target)
                        waiting.append(target)
        # Only states that read a character, guard the end or accept tell sets apart.
        return frozenset(s for s in found if self._moves[s] or self._end_only[s] or s == self._last)

    def _state(self) -> int:
        if len(self._free) == MAX_POSITIONS:
            raise AutomatonTooLarge("positions", MAX_POSITIONS)
        for table in (self._free, self._start_only, self._end_only):
            table.append([])
        self._moves.append(None)
        return len(self._free) - 1

    def _build(self, node: Node) -> tuple[int, int]:
        """The first and the last state of a part."""
        match node:
            case Repeat():
                return self._repeat(node)
            case Concat():
                first = last = self._state()
                for part in node.parts:
                    begin, end = self._build(part)
                    self._free[last].append(begin)
                    last = end
                return first, last
        first, last = self._state(), self._state()
        match node:
            case Chars():
                self._moves[first] = (node.ranges, last)
            case Choice():
                for option in node.options:
                    begin, end = self._build(option)
                    self._free[first].append(begin)
                    self._free[end].append(last)
            case Start():
                self._start_only[first].append(last)
            case End():
                self._end_only[first].append(last)
        return first, last

    def _repeat(self, node: Repeat) -> tuple[int, int]:
        first = last = self._state()
        exits = []
        for count in range(node.low if node.high is None else node.high):
            if count >= node.low:
                exits.append(last)
            begin, end = self._build(node.part)
            self._free[last].append(begin)
            last = end
        if node.high is None:
            begin, end = self._build(node.part)
            loop = self._state()
            self._free[last].append(loop)
            self._free[loop].append(begin)
            self._free[end].append(loop)
            last = loop
        # A state of its own, since the part's last one may lead back into the part.
        final = self._state()
        for state in (*exits, last):
            self._free[state].append(final)
        return first, final


class Not:
    """Accepts what the machine does not."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.cuts = machine.cuts
        self.start: State = (machine.start,)

    def step(self, state: State, point: int) -> State:
        assert isinstance(state, tuple)
        return (DEAD if state[0] is DEAD else self._machine.step(state[0], point),)

    def accepts(self, state: State) -> bool:
        assert isinstance(state, tuple)
        return state[0] is DEAD or not self._machine.accepts(state[0])


class Length:
    """Accepts texts of `low` to `high` characters; counts no further than it has to."""

    def __init__(self, low: int, high: int | None) -> None:
        self._low, self._high = low, high
        self.cuts: frozenset[int] = frozenset()
        self.start: State = 0

    def step(self, state: State, _point: int) -> State:
        assert isinstance(state, int)
        if self._high is None:
            return min(state + 1, self._low)
        return state + 1 if state < self._high else DEAD

    def accepts(self, state: State) -> bool:
        assert isinstance(state, int)
        return state >= self._low
