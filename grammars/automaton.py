"""Regular languages as deterministic automata over code points: what several conditions together admit.

Any number of machines run side by side, one step per character: expressions that have to match, others that must
not, bounds on the length, multiples of a number. The product is built state by state, so nothing is paid for
what no text reaches, and limits end it early. Called by `regex` and `json_schema`; `automaton_rules` prints it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, TypeAlias

from grammars.decimal_machines import Decimals, Multiple, Range
from grammars.errors import AutomatonTooLarge
from grammars.leap_seconds import ShiftedLeapSecond
from grammars.machines import DEAD, Expression, Length, Machine, Not, State
from grammars.regex_tree import ANYTHING, Concat, Node
from grammars.spelling import FIRST_SURROGATE, LAST_SURROGATE, MAX_POINT, Ranges, union

MAX_STATES: Final = 4_000  # of the product
MAX_STEPS: Final = 60_000  # transitions looked at

_Row: TypeAlias = dict[int, int]  # next state -> the classes of characters that lead there, one bit each
_ROUNDS: Final = 12  # of merging states that behave alike


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
    leap: ShiftedLeapSecond | None = None

    @property
    def is_free(self) -> bool:
        """Nothing but bounds on the length, if any."""
        others = (self.whole, self.somewhere, self.not_whole, self.nowhere, self.multiple_of, self.decimals, self.leap)
        return not any(others)

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
            leap=self.leap or other.leap,
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
        if self.leap is not None:
            found.append(self.leap)
        return found or [Expression.of(ANYTHING)]

    def accepts(self, text: str) -> bool:
        return all(_runs(machine, text) for machine in self.machines())


def _joined(ours: tuple[Node, ...], theirs: tuple[Node, ...]) -> tuple[Node, ...]:
    return tuple(dict.fromkeys(ours + theirs))


def _runs(machine: Machine, text: str) -> bool:
    state = machine.start
    for character in text:
        state = machine.step(state, ord(character))
        if state is DEAD:
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
        if stepped is DEAD:
            return None
        target.append(stepped)
    return tuple(target)


def _classes(cuts: Iterable[int]) -> list[tuple[int, int]]:
    """Ranges inside which no machine tells two characters apart; surrogates are in none."""
    bounds = sorted({*cuts, 0, FIRST_SURROGATE, LAST_SURROGATE + 1, MAX_POINT + 1})
    pairs = pairwise(bounds)
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
        moved = {
            s: seen.setdefault((accepting[s], frozenset(rows[s].items())), s) for s in sorted(set(merged.values()))
        }
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
