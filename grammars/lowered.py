"""A grammar as numbered nodes: groups and repetitions are nodes too, names are gone, classes are sorted ranges.

Between the syntax tree and what is computed over it (`admission`, `growth`). Nodes are few: a repetition is one node,
whatever its count; `num_elements` says what llama.cpp will make of it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from grammars.errors import GrammarInvalid
from grammars.syntax import (
    MAX_CODE_POINT,
    AnyChar,
    CharClass,
    Grammar,
    Group,
    Item,
    Literal,
    Place,
    Reference,
    Repeat,
    Token,
)


@dataclass(frozen=True, slots=True)
class Chars:
    """One code point of these ranges: sorted, disjoint, at least one. NUL is in none: llama.cpp can not match it."""

    ranges: tuple[tuple[int, int], ...]


Atom = int | str | Chars | Token
"""A node's number, a text that is not empty, one of a class, or a token."""


@dataclass(frozen=True, slots=True)
class Choice:
    alternatives: tuple[tuple[Atom, ...], ...]


@dataclass(frozen=True, slots=True)
class Loop:
    """The atom `least` to `most` times; None is no limit."""

    atom: Atom
    least: int
    most: int | None


Node = Choice | Loop


@dataclass(frozen=True, slots=True)
class Lowered:
    nodes: tuple[Node, ...]
    owners: tuple[str, ...]
    """Of each node, the rule that it is written in. A rule's own node is `rules[name]`."""
    places: tuple[Place, ...]
    rules: dict[str, int]
    num_elements: int
    """What llama.cpp holds of it, and compares every place of a stack with when it clones; 8 bytes each."""

    def tokens(self) -> frozenset[Token]:
        """The token terminals."""
        return frozenset(atom for node in self.nodes for atom in _atoms(node) if isinstance(atom, Token))


def _atoms(node: Node) -> Iterator[Atom]:
    return iter((node.atom,)) if isinstance(node, Loop) else (atom for part in node.alternatives for atom in part)


def lower(grammar: Grammar) -> Lowered:
    """Raises GrammarInvalid for a reference to no rule and for a class that matches nothing."""
    return _Lowering(grammar).lowered()


class _Lowering:
    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._rules = {name: number for number, name in enumerate(grammar.rules)}
        self._nodes: list[Node] = [Choice(())] * len(self._rules)
        self._owners = list(self._rules)
        self._places = [rule.place for rule in grammar.rules.values()]
        self._num_elements = 0

    def lowered(self) -> Lowered:
        for number, rule in enumerate(self._grammar.rules.values()):
            self._nodes[number] = self._choice(rule.alternatives, rule.name)
        return Lowered(tuple(self._nodes), tuple(self._owners), tuple(self._places), self._rules, self._num_elements)

    def _choice(self, alternatives: Iterable[tuple[Item, ...]], owner: str) -> Choice:
        lowered = []
        for sequence in alternatives:
            pairs = [self._atom(item, owner) for item in sequence]
            self._num_elements += 1 + sum(size for _, size in pairs)
            lowered.append(tuple(atom for atom, _ in pairs if atom != ""))
        return Choice(tuple(lowered))

    def _atom(self, item: Item, owner: str) -> tuple[Atom, int]:
        """The item, and how many elements llama.cpp writes in its place. Recursion is as deep as the parser allows."""
        match item:
            case Literal(text):
                if "\0" in text:
                    raise self._fault("a literal with a NUL character that nothing can match", owner)
                return text, len(text)
            case CharClass(ranges, is_negated):
                merged = _merged(ranges)
                if not is_negated and any(0xD800 <= low <= 0xDFFF for low, _ in merged):
                    raise self._fault(
                        "a class with a range that begins among the surrogates, which no text holds", owner
                    )
                chars = Chars(_negated(merged) if is_negated else merged)
                if not chars.ranges:
                    raise self._fault("a class that nothing can match", owner)
                return chars, sum(1 + (low < high) for low, high in ranges)
            case AnyChar():
                return Chars(((1, MAX_CODE_POINT),)), 1
            case Token():
                return item, 1
            case Reference(name, place):
                if name not in self._rules:
                    raise GrammarInvalid(f"there is no rule {name[:64]!r}", *place)
                return self._rules[name], 1
            case Group(alternatives):
                return self._node(self._choice(alternatives, owner), owner, self._grammar.rules[owner].place), 1
            case Repeat(repeated, least, most, place):
                atom, size = self._atom(repeated, owner)
                num_optional = 1 if most is None else most - least
                self._num_elements += num_optional * (size + 3)
                return self._node(Loop(atom, least, most), owner, place), size * least + (num_optional > 0)

    def _node(self, node: Node, owner: str, place: Place) -> int:
        self._nodes.append(node)
        self._owners.append(owner)
        self._places.append(place)
        return len(self._nodes) - 1

    def _fault(self, what: str, owner: str) -> GrammarInvalid:
        return GrammarInvalid(f"rule {owner[:64]!r} has {what}", *self._grammar.rules[owner].place)


def _merged(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted((max(low, 1), high) for low, high in ranges if high > 0):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)


def _negated(merged: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    lows = [1, *(high + 1 for _, high in merged)]
    highs = [*(low - 1 for low, _ in merged), MAX_CODE_POINT]
    return tuple((low, high) for low, high in zip(lows, highs, strict=True) if low <= high)
