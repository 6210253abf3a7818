"""How characters are spelled: in a GBNF literal, in a GBNF class, and inside a JSON string.

Knows no rules and no schemas. Code points are integers, sets of them sorted tuples of inclusive ranges that
neither touch nor overlap. Called by everything in this room that writes GBNF.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, TypeAlias

Ranges: TypeAlias = tuple[tuple[int, int], ...]

MAX_POINT: Final = 0x10FFFF
FIRST_SURROGATE: Final = 0xD800
LAST_SURROGATE: Final = 0xDFFF
ANY: Final[Ranges] = ((0, FIRST_SURROGATE - 1), (LAST_SURROGATE + 1, MAX_POINT))

# What JSON writes as a backslash and one letter.
_SHORT: Final = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}
_NAMED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}
_CLASS_SPECIALS: Final = frozenset('[]^-"\\')


def literal(text: str) -> str:
    """A GBNF literal of exactly this text."""
    return f'"{"".join(_NAMED.get(c, c if c >= " " else f"{chr(92)}x{ord(c):02X}") for c in text)}"'


def json_literal(value: object) -> str:
    """A GBNF literal of a JSON value, one space after each colon and comma."""
    return literal(json.dumps(value, ensure_ascii=False))


@lru_cache(maxsize=4_096)
def char_class(ranges: Ranges) -> str:
    """A GBNF class, or a literal where it has one character. Never a negated class: llama.cpp takes the first byte of a
    character beyond ASCII for one that such a class excludes.
    """
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return literal(chr(ranges[0][0]))
    return f"[{''.join(_in_class(first) if first == last else _span(first, last) for first, last in ranges)}]"


def _span(first: int, last: int) -> str:
    return f"{_in_class(first)}{'-' if last > first + 1 else ''}{_in_class(last)}"


def _in_class(point: int) -> str:
    character = chr(point)
    if point < 0x80:
        return character if character.isprintable() and character not in _CLASS_SPECIALS else f"\\x{point:02X}"
    return f"\\u{point:04X}" if point <= 0xFFFF else f"\\U{point:08X}"


@lru_cache(maxsize=4_096)
def in_json(ranges: Ranges) -> tuple[str, ...]:
    """GBNF alternatives for one character of the set as a JSON string writes it: raw, else in one escaped form."""
    raw = minus(ranges, ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)))
    options = [char_class(raw)] if raw else []
    short = [letter for point, letter in _SHORT.items() if contains(ranges, point)]
    if short:
        options.append(f'"\\\\" {char_class(union([(ord(letter), ord(letter)) for letter in short]))}')
    for high in (0, 1):
        low = [n for n in range(16) if contains(ranges, high * 16 + n) and high * 16 + n not in _SHORT]
        if low:
            digits = union([(ord(digit), ord(digit)) for n in low for digit in {f"{n:x}", f"{n:X}"}])
            options.append(f'"\\\\u00{high}" {char_class(digits)}')
    return tuple(options)


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorts ranges and joins those that touch."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def minus(ranges: Ranges, removed: Ranges) -> Ranges:
    """The set without another one."""
    left = list(ranges)
    for low, high in removed:
        left = [
            part
            for first, last in left
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return tuple(left)


def complement(ranges: Ranges) -> Ranges:
    """Every code point, surrogates excepted, that is not in the set."""
    return minus(ANY, ranges)


def contains(ranges: Ranges, point: int) -> bool:
    return any(first <= point <= last for first, last in ranges)
