"""Regular languages as deterministic automata over code points: what several conditions together admit.

Any number of machines run side by side, one step per character: expressions that have to match, others that must
not, bounds on the length, multiples of a number. The product is built state by state, so nothing is paid for
what no text reaches, and limits end it early. Called by `regex` and `json_schema`; `automaton_rules` prints it.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias

from grammars.decimal_machines import Decimals, Multiple, Range
from grammars.errors import AutomatonTooLarge
from grammars.regex_tree import ANYTHING, Chars, Choice, Concat, End, Node, Repeat, Start
from grammars.spelling import FIRST_SURROGATE, LAST_SURROGATE, MAX_POINT, Ranges, union

MAX_STATES: Final = 4_000  # of the product
MAX_STEPS: Final = 60_000  # transitions looked at
MAX_NFA: Final = 8_000  # states of one expression

State: TypeAlias = Hashable
_Row: TypeAlias = dict[int, int]  # next state -> the classes of characters that lead there, one bit each
_ROUNDS: Final = 12  # of merging states that behave alike
_DEAD: Final = None
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


@dataclass(frozen=True, slots=True)
class Language:
    """Texts that meet all conditions: matched as a whole, matched somewhere, not matched as a whole or anywhere."""

    whole: tuple[Node, ...] = ()
    somewhere: tuple[Node, ...] = ()
    not_whole: tuple[Node, ...] = ()
    nowhere: tuple[Node, ...] = ()
    min_length: int = 0
    max_length: int | None = None
    multiple_of: tuple[int, int] | None = None  # (p, k): decimals that are multiples of p / 10**k
    decimals: Decimals | None = None  # decimal numbers of a range

    @property
    def is_free(self) -> bool:
        """Nothing but bounds on the length, if any."""
        return not (self.whole or self.somewhere or self.not_whole or self.nowhere or self.decimals)

    def also(self, other: "Language") -> "Language":
        """The texts that both have; not for two ranges of numbers."""
        limits = [limit for limit in (self.max_length, other.max_length) if limit is not None]
        return Language(
            whole=_joined(self.whole, other.whole),
            somewhere=_joined(self.somewhere, other.somewhere),
            not_whole=_joined(self.not_whole, other.not_whole),
            nowhere=_joined(self.nowhere, other.nowhere),
            min_length=max(self.min_length, other.min_length),
            max_length=min(limits, default=None),
            multiple_of=self.multiple_of or other.multiple_of,
            decimals=self.decimals or other.decimals,
        )

    def machines(self) -> list[Machine]:
        found: list[Machine] = [Expression.of(node) for node in self.whole]
        found += [Expression.of(_search(node)) for node in self.somewhere]
        found += [Not(Expression.of(node)) for node in self.not_whole]
        found += [Not(Expression.of(_search(node))) for node in self.nowhere]
        if self.min_length or self.max_length is not None:
            found.append(Length(self.min_length, self.max_length))
        if self.decimals is not None:
            found.append(Range(self.decimals))
        if self.multiple_of is not None:
            found.append(Multiple(*self.multiple_of))
        return found or [Expression.of(ANYTHING)]

    def accepts(self, text: str) -> bool:
        return all(_runs(machine, text) for machine in self.machines())


def _joined(ours: tuple[Node, ...], theirs: tuple[Node, ...]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(ours + theirs))


def _runs(machine: Machine, text: str) -> bool:
    state = machine.start
    for character in text:
        state = machine.step(state, ord(character))
        if state is _DEAD:
            return False
    return machine.accepts(state)


def _search(node: Node) -> Node:
    return Concat((ANYTHING, node, ANYTHING))


@dataclass(frozen=True, slots=True)
class Automaton:
    """State 0 is the start. Every state leads to an accepting one; `is_empty` says that there is none."""

    accepting: tuple[bool, ...]
    edges: tuple[tuple[tuple[Ranges, int], ...], ...]  # by state: (characters, next state), one edge per next state
    num_steps: int  # transitions that were looked at: what building it has cost

    @property
    def is_empty(self) -> bool:
        return not self.accepting


@lru_cache(maxsize=512)
def automaton(language: Language) -> Automaton:
    """The one automaton of all conditions, dead states dropped. Raises AutomatonTooLarge."""
    machines = language.machines()
    classes = _classes(frozenset().union(*(machine.cuts for machine in machines)))
    start = tuple(machine.start for machine in machines)
    numbers: dict[tuple[State, ...], int] = {start: 0}
    waiting, rows, accepting = [start], [], []
    for states in waiting:  # grows as it is read
        accepting.append(all(m.accepts(s) for m, s in zip(machines, states, strict=True)))
        row: _Row = {}
        if len(waiting) * len(classes) > MAX_STEPS:
            raise AutomatonTooLarge("steps", MAX_STEPS)
        for index, (first, _) in enumerate(classes):
            target = _step(machines, states, first)
            if target is None:
                continue
            if target not in numbers:
                if len(numbers) == MAX_STATES:
                    raise AutomatonTooLarge("states", MAX_STATES)
                numbers[target] = len(numbers)
                waiting.append(target)
            row[numbers[target]] = row.get(numbers[target], 0) | 1 << index
        rows.append(row)
    return _reduced(accepting, rows, classes)


def _step(machines: Sequence[Machine], states: tuple[State, ...], point: int) -> tuple[State, ...] | None:
    target: list[State] = []
    for machine, state in zip(machines, states, strict=True):
        stepped = machine.step(state, point)
        if stepped is _DEAD:
            return None
        target.append(stepped)
    return tuple(target)


def _classes(cuts: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges inside which no machine tells two characters apart; surrogates are in none."""
    bounds = sorted({*cuts, 0, FIRST_SURROGATE, LAST_SURROGATE + 1, MAX_POINT + 1})
    pairs = zip(bounds, bounds[1:], strict=False)
    return [(low, high - 1) for low, high in pairs if not FIRST_SURROGATE <= low <= LAST_SURROGATE]


def _reduced(accepting: list[bool], rows: list[_Row], classes: list[tuple[int, int]]) -> Automaton:
    """Without states that lead nowhere, states that behave alike made one as far as a few rounds see it."""
    num_steps = len(rows) * len(classes)
    live = _live(accepting, rows)
    if 0 not in live:
        return Automaton((), (), num_steps)
    rows = [{target: mask for target, mask in row.items() if target in live} for row in rows]
    merged = {state: state for state in live}
    for _round in range(_ROUNDS):
        seen: dict[tuple[bool, frozenset[tuple[int, int]]], int] = {}
        moved = {s: seen.setdefault((accepting[s], frozenset(rows[s].items())), s) for s in sorted(set(merged.values()))}
        if len(seen) == len(moved):
            break
        merged = {state: moved[target] for state, target in merged.items()}
        rows = [_renamed(row, merged) for row in rows]
    kept = {state: number for number, state in enumerate(sorted(set(merged.values())))}
    spans: dict[int, Ranges] = {}
    for mask in {mask for state in kept for mask in rows[state].values()}:
        spans[mask] = union(span for index, span in enumerate(classes) if mask >> index & 1)
    edges = (tuple((spans[mask], kept[target]) for target, mask in rows[state].items()) for state in kept)
    return Automaton(tuple(accepting[state] for state in kept), tuple(edges), num_steps)


def _renamed(row: _Row, merged: dict[int, int]) -> _Row:
    renamed: _Row = {}
    for target, mask in row.items():
        if target in merged:
            renamed[merged[target]] = renamed.get(merged[target], 0) | mask
    return renamed


def _live(accepting: list[bool], edges: list[_Row]) -> set[int]:
    """States from which an accepting one can be reached."""
    sources: list[list[int]] = [[] for _ in edges]
    for state, targets in enumerate(edges):
        for target in targets:
            sources[target].append(state)
    waiting = [state for state, is_accepting in enumerate(accepting) if is_accepting]
    live = set(waiting)
    while waiting:
        for source in sources[waiting.pop()]:
            if source not in live:
                live.add(source)
                waiting.append(source)
    return live


class Expression:
    """An expression as Thompson's automaton, run as sets of its states."""

    def __init__(self, node: Node) -> None:
        self._free: list[list[int]] = []  # by state: states reached without a character
        self._start_only: list[list[int]] = []  # and only at the beginning of the text
        self._end_only: list[list[int]] = []  # and only at its end
        self._moves: list[tuple[Ranges, int] | None] = []
        first, self._last = self._build(node)
        self.start: State = self._closure((first,), self._free, self._start_only) | {_AT_START}
        self.cuts = frozenset(
            cut for move in self._moves if move for low, high in move[0] for cut in (low, high + 1)
        )
        self._rows: dict[State, tuple[list[int], list[State]]] = {}
        self._closures: dict[frozenset[int], State] = {}

    @staticmethod
    @lru_cache(maxsize=512)
    def of(node: Node) -> "Expression":
        return Expression(node)

    def step(self, state: State, point: int) -> State:
        assert isinstance(state, frozenset)
        if state not in self._rows:
            if len(self._rows) > MAX_STATES:
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
                self._closures[reached] = self._closure(reached, self._free) if reached else _DEAD
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
        if len(self._free) == MAX_NFA:
            raise AutomatonTooLarge("positions", MAX_NFA)
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
        return (_DEAD if state[0] is _DEAD else self._machine.step(state[0], point),)

    def accepts(self, state: State) -> bool:
        assert isinstance(state, tuple)
        return state[0] is _DEAD or not self._machine.accepts(state[0])


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
        return state + 1 if state < self._high else _DEAD

    def accepts(self, state: State) -> bool:
        assert isinstance(state, int)
        return state >= self._low
