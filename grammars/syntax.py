"""The syntax tree of a GBNF grammar: what `gbnf` reads, `admission` judges and a jump-ahead automaton walks.

Values only. Places are told in errors and are no part of equality.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_CODE_POINT = 0x10FFFF


class Place(NamedTuple):
    """Both count from 1; the column in code points."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Literal:
    """These code points one after another; none of them matches the empty text."""

    text: str


@dataclass(frozen=True, slots=True)
class CharClass:
    """One code point in (or, if negated, in none of) the inclusive ranges. They may overlap and have no order."""

    ranges: tuple[tuple[int, int], ...]
    is_negated: bool = False


@dataclass(frozen=True, slots=True)
class AnyChar:
    """One code point, a line feed too."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token of the vocabulary, whatever its text: `<[id]>`, or `<text>` with the brackets part of the text.

    Just one of `id` and `text` is given. Negated, it is any token but this one.
    """

    id: int | None
    text: str | None
    is_negated: bool = False
    place: Place = field(default=Place(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Reference:
    name: str
    place: Place = field(default=Place(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Repeat:
    """The item `least` to `most` times; None is no limit. `{0}` is least and most 0."""

    item: "Item"
    least: int
    most: int | None
    place: Place = field(default=Place(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Group:
    """Alternatives in parentheses."""

    alternatives: "Alternatives"


Item = Literal | CharClass | AnyChar | Token | Reference | Repeat | Group
Sequence = tuple[Item, ...]
Alternatives = tuple[Sequence, ...]
"""At least one; an empty sequence matches the empty text."""


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    alternatives: Alternatives
    place: Place = field(default=Place(0, 0), compare=False)


@dataclass(frozen=True, slots=True)
class Grammar:
    """Rules by name, in the order of the text. That they refer to one another rightly is admission's to check."""

    rules: Mapping[str, Rule]
