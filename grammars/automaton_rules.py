"""An automaton as right-linear rules: each text has one derivation, so llama.cpp never holds rival stacks.

States with one way in are written where they are entered, runs of one repeated character class as `[..]{m,n}`;
every other state is a rule. Called by `regex` and `json_schema`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from grammars.automaton import Automaton
from grammars.rules import Alternative, Item, Ref, Rules
from grammars.spelling import Ranges

MAX_REPEAT: Final = 2_000  # llama.cpp refuses more as a lower bound, and takes more as an upper one for no bound

Spell = Callable[[Ranges], Sequence[str]]  # a set of characters to GBNF alternatives


def write(automaton: Automaton, rules: Rules, stem: str, spell: Spell, end: str) -> Ref:
    """Adds the automaton's rules; `end` is the GBNF that closes an accepted text. Not for an empty language."""
    return _Writer(automaton, rules, stem, spell, end).rule(0)


class _Writer:
    def __init__(self, automaton: Automaton, rules: Rules, stem: str, spell: Spell, end: str) -> None:
        self._automaton = automaton
        self._rules = rules
        self._stem = stem
        self._spell = spell
        self._end: Alternative = (end,) if end else ()
        self._refs: dict[int, Ref] = {}
        self._counts: dict[int, int] = {}
        self._ways_in = [0] * len(automaton.accepting)
        for edges in automaton.edges:
            for _, target in edges:
                self._ways_in[target] += 1

    def rule(self, state: int) -> Ref:
        """The rule of a state, and those of all that it leads to; a list instead of recursion keeps the stack flat."""
        waiting = [state]
        first = self._ref(state, [])
        while waiting:
            current = waiting.pop()
            self._rules.define(self._refs[current], *self._alternatives(current, waiting))
        return first

    def _ref(self, state: int, waiting: list[int]) -> Ref:
        if state not in self._refs:
            self._refs[state] = self._rules.reserve(self._stem)
            waiting.append(state)
        return self._refs[state]

    def _alternatives(self, state: int, waiting: list[int]) -> list[Alternative]:
        found: list[Alternative] = [self._end] if self._automaton.accepting[state] else []
        for ranges, target in self._automaton.edges[state]:
            for spelled in self._spell(ranges):
                found.append((spelled, *self._tail(target, waiting)))
        return found

    def _tail(self, state: int, waiting: list[int]) -> Sequence[Item]:
        """What follows the entry into a state: the state itself where it has one way on, else its rule."""
        tail: list[Item] = []
        edges, accepting = self._automaton.edges, self._automaton.accepting
        while self._ways_in[state] == 1 and not accepting[state] and len(edges[state]) == 1:
            options = self._spell(edges[state][0][0])
            if len(options) != 1 or edges[state][0][1] == state:
                break
            tail.append(options[0])
            state = edges[state][0][1]
        if accepting[state] and not edges[state]:
            return [*_counted_runs(tail), *self._end]
        more = self._optional(state)
        return [*_counted_runs(tail), *((more, *self._end) if more else (self._ref(state, waiting),))]

    def _optional(self, state: int) -> str:
        """Up to so many more of one set, where that is all that may follow; empty where it is not."""
        count = self._counted(state)
        if not 0 < count <= MAX_REPEAT:
            return ""
        options = self._spell(self._automaton.edges[state][0][0])
        return f"{options[0]}{{0,{count}}}" if len(options) == 1 and _is_one_item(options[0]) else ""

    def _counted(self, state: int) -> int:
        """How many accepting states in a row read one and the same set and then end; else 0."""
        if state not in self._counts:
            self._count(state)
        return self._counts[state]

    def _count(self, state: int) -> None:
        edges, accepting = self._automaton.edges, self._automaton.accepting
        run, ranges = [state], edges[state][0][0] if edges[state] else ()
        seen = {state}
        while accepting[state] and len(edges[state]) == 1 and edges[state][0][0] == ranges:
            state = edges[state][0][1]
            if state in seen:
                break
            run.append(state)
            seen.add(state)
        is_counted = accepting[run[-1]] and not edges[run[-1]]
        for place, passed in enumerate(run[:-1] or run):
            self._counts[passed] = len(run) - 1 - place if is_counted else 0


def _is_one_item(spelled: str) -> bool:
    """An escape of JSON is two items, and a count would take the second alone."""
    return not spelled.startswith('"\\\\')


def _counted_runs(items: list[Item]) -> list[Item]:
    """Equal character classes in a row as one with a count."""
    found: list[Item] = []
    at = 0
    while at < len(items):
        end = at + 1
        while end < len(items) and items[end] == items[at]:
            end += 1
        item = items[at]
        is_class = isinstance(item, str) and item.startswith("[") and end - at > 1
        end = min(end, at + MAX_REPEAT) if is_class else end
        found.extend([f"{item}{{{end - at}}}"] if is_class else items[at:end])
        at = end
    return found
