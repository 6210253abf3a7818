"""What a grammar state says of whole kinds of characters, read from its stacks and rules instead of asked for.

Follows llama.cpp's own algorithm: a stack is matched by its last element, a class of characters, and goes on as the
rules behind it say. A state allows what any of its stacks allows, so what one stack admits is certain.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from grammars.token_table import ANY_LENGTH, Ranges

Element = tuple[int, int]
"""llama.cpp's type and value."""
Place = tuple[int, int]
"""Rule and element."""
Stack = tuple[Place, ...]
"""The last is matched next; none are left where the text may end."""

_END, _ALTERNATE, _RULE, _CHAR, _NOT, _UPPER, _OR, _ANY = range(8)
_MAX_RUN: Final = 16
"""Longer tokens are few."""
_MAX_STACKS: Final = 8
"""That are followed at once, of any number: what some of them admit is certain all the same."""
_MAX_EXPANSIONS: Final = 32
"""Of the rules behind one character."""


class Rules:
    """Of one grammar."""

    def __init__(self, rules: Sequence[Sequence[Element]]) -> None:
        self._rules = rules
        self._covering: dict[tuple[Place, Ranges], bool] = {}
        self._overlapping: dict[tuple[Place, Ranges], bool] = {}
        self._starts: dict[int, list[Place]] = {}

    def may_begin(self, stacks: Sequence[Stack], characters: Ranges) -> bool:
        """Whether any of the characters may follow. True where that is not known."""
        return any(self._overlaps(stack[-1], characters) for stack in stacks if stack)

    def run(self, stacks: Sequence[Stack], characters: Ranges) -> int:
        """At least so many of these characters may follow, whichever they are; ANY_LENGTH stands for no limit."""
        here = self._covering_stacks(stacks, characters)
        for length in range(_MAX_RUN):
            if not here:
                return length
            here = set(islice(here, _MAX_STACKS))
            there = self._covering_stacks({behind for stack in here for behind in self._behind(stack)}, characters)
            if here <= there:
                return ANY_LENGTH
            here = there
        return _MAX_RUN

    def only_character(self, stacks: Iterable[Stack]) -> int | None:
        """The one character that may follow; None where another one may, or the end, or a token terminal."""
        found = {self._single_at(stack[-1]) if stack else None for stack in stacks}
        return found.pop() if len(found) == 1 else None

    def characters(self, stacks: Iterable[Stack]) -> Ranges | None:
        """Which characters may follow, none where the text has to end; None where they can not be listed."""
        found: list[tuple[int, int]] = []
        for stack in stacks:
            kind, ranges, _ = self._class_at(stack[-1]) if stack else (_CHAR, [], None)
            if kind != _CHAR:
                return None
            found += ranges
        return tuple(found)

    def step(self, stacks: Iterable[Stack]) -> set[Stack] | None:
        """All the stacks once each has matched a character; None where they are many."""
        found: set[Stack] = set()
        for stack in stacks:
            behind, are_all = self._expanded(stack)
            if not are_all:
                return None
            found |= behind
        return found

    def _single_at(self, place: Place) -> int | None:
        kind, ranges, _ = self._class_at(place)
        low, high = ranges[0]
        return low if kind == _CHAR and len(ranges) == 1 and low == high else None

    def _covering_stacks(self, stacks: Iterable[Stack], characters: Ranges) -> set[Stack]:
        return {stack for stack in stacks if stack and self._covers(stack[-1], characters)}

    def _covers(self, place: Place, characters: Ranges) -> bool:
        found = self._covering.get((place, characters))
        if found is None:
            found = self._covering[place, characters] = self._is_covering(place, characters)
        return found

    def _is_covering(self, place: Place, characters: Ranges) -> bool:
        kind, ranges, _ = self._class_at(place)
        if kind == _NOT:
            return not _meet(ranges, characters)
        return kind == _ANY or (kind == _CHAR and _is_within(characters, ranges))

    def _overlaps(self, place: Place, characters: Ranges) -> bool:
        found = self._overlapping.get((place, characters))
        if found is None:
            found = self._overlapping[place, characters] = self._is_overlapping(place, characters)
        return found

    def _is_overlapping(self, place: Place, characters: Ranges) -> bool:
        kind, ranges, _ = self._class_at(place)
        if kind == _NOT:
            return not _is_within(characters, ranges)
        return kind != _CHAR or _meet(ranges, characters)

    def _class_at(self, place: Place) -> tuple[int, list[tuple[int, int]], Place]:
        """Type, ranges of the class, and the place behind it."""
        rule, index = place
        elements = self._rules[rule]
        kind, ranges = elements[index][0], []
        while True:
            low, high = elements[index][1], elements[index][1]
            index += 1
            if elements[index][0] == _UPPER:
                high = elements[index][1]
                index += 1
            ranges.append((low, high))
            if elements[index][0] != _OR:
                return kind, ranges, (rule, index)

    def _behind(self, stack: Stack) -> set[Stack]:
        """The stacks once a character was matched; some of them where they are many."""
        return self._expanded(stack)[0]

    def _expanded(self, stack: Stack) -> tuple[set[Stack], bool]:
        """The same, and whether these are all."""
        found: set[Stack] = set()
        _, _, behind = self._class_at(stack[-1])
        todo = [stack[:-1] + self._unless_at_end(behind)]
        for _ in range(_MAX_EXPANSIONS):
            if not todo:
                break
            current = todo.pop()
            if not current or self._element(current[-1])[0] != _RULE:
                found.add(current)
                continue
            rule, index = current[-1]
            base = current[:-1] + self._unless_at_end((rule, index + 1))
            todo += [base + self._unless_at_end(start) for start in self._alternatives(self._element(current[-1])[1])]
        return found, not todo

    def _alternatives(self, rule: int) -> list[Place]:
        """Where they begin; no more than are ever followed."""
        if rule not in self._starts:
            bars = (index + 1 for index, (kind, _) in enumerate(self._rules[rule]) if kind == _ALTERNATE)
            self._starts[rule] = [(rule, 0), *((rule, start) for start in islice(bars, _MAX_EXPANSIONS))]
        return self._starts[rule]

    def _unless_at_end(self, place: Place) -> Stack:
        return () if self._element(place)[0] in (_END, _ALTERNATE) else (place,)

    def _element(self, place: Place) -> Element:
        return self._rules[place[0]][place[1]]


def _meet(ranges: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> bool:
    return any(low <= end and start <= high for low, high in ranges for start, end in others)


def _is_within(ranges: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> bool:
    """Every character of the first is one of the others."""
    sorted_others = sorted(others)
    for low, high in ranges:
        start = low
        for first, last in sorted_others:
            if first <= start <= last:
                start = last + 1
        if start <= high:
            return False
    return True
