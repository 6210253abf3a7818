"""A regular expression as a tree, and ways to build one without parsing.

Knows no syntax and no automata: `regex` parses text into these nodes, `automaton` runs them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from grammars.spelling import ANY, Ranges


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set; the empty set matches nothing at all."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Concat:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`low` to `high` times; a `high` of None has no end."""

    part: "Node"
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """Matches nothing, at the beginning of the text."""


@dataclass(frozen=True, slots=True)
class End:
    """Matches nothing, at the end of the text."""


Node: TypeAlias = Chars | Concat | Choice | Repeat | Start | End

EMPTY: Final = Concat(())
ANYTHING: Final = Repeat(Chars(ANY), 0, None)
DIGIT: Final = Chars(((0x30, 0x39),))


def text_node(text: str) -> Node:
    """Exactly this text."""
    return Concat(tuple(Chars(((ord(c), ord(c)),)) for c in text))


def any_of(texts: Iterable[str]) -> Node:
    return Choice(tuple(text_node(text) for text in texts))


def one_of(low: str, high: str) -> Node:
    return Chars(((ord(low), ord(high)),))
