"""Leap seconds of RFC 3339 away from the zero offset: `15:59:60-08:00` is one, since it is 23:59:60 in UTC.

A minute of the day and an offset that have to fit are 1,440 pairs, and an automaton over whole times would multiply
them by all that stands between; written out as a tree over the minute they are 65 KB of GBNF. Called by `automaton`
(the machine) and `json_schema` (the tree).
"""

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

MINUTES: Final = 24 * 60
_LAST: Final = MINUTES - 1  # 23:59, the minute of UTC that may have a second more
_TIME: Final = re.compile(r"(\d\d):(\d\d):60([+-])(\d\d):(\d\d)")
_SECONDS_END: Final = len("00:00:60")
_LENGTH: Final = len("00:00:60+00:00")


@dataclass(frozen=True, slots=True)
class ShiftedLeapSecond:
    """The machine: accepts a time whose minute fits its offset, after a date and a `T` where there is a date.

    A state is what has been read of the time, without the digits after the point.
    """

    has_date: bool

    @property
    def cuts(self) -> frozenset[int]:
        return frozenset(range(0x30, 0x3B)) | {ord(c) + n for c in "+-.Tt:" for n in (0, 1)}

    @property
    def start(self) -> Hashable:
        return "date" if self.has_date else ""

    def step(self, state: Hashable, point: int) -> Hashable:
        assert isinstance(state, str)
        if state == "date":
            return "" if point in (0x54, 0x74) else state
        if len(state) == _SECONDS_END and chr(point) not in "+-":
            return state if chr(point) in ".0123456789" else None
        return state + chr(point) if len(state) < _LENGTH and chr(point) in "0123456789:+-" else None

    def accepts(self, state: Hashable) -> bool:
        found = _TIME.fullmatch(str(state))
        if found is None:
            return False
        hour, minute, sign, *offset = found.groups()
        shift = int(offset[0]) * 60 + int(offset[1])
        utc = int(hour) * 60 + int(minute) - (shift if sign == "+" else -shift)
        return shift != 0 and utc % MINUTES == _LAST


@cache
def leap_second_block(max_places: int | None) -> tuple[str, str]:
    """The first rule's name, and rules for all such times with at most so many digits after the point."""
    name = "LEAP" if max_places is None else f"LEAP{max(max_places, 0)}"
    digits = "[0-9]+" if max_places is None else f"[0-9]{{1,{max_places}}}"
    lines = [f"{name} ::= " + "|".join(f'"{hour:02}:" {name}-{hour}' for hour in range(24))]
    for hour in range(24):
        lines.append(f"{name}-{hour} ::= " + "|".join(f'"{ten}" {name}-{hour}-{ten}' for ten in range(6)))
        for ten in range(6):
            units = [(unit, offset) for unit in range(10) for offset in _offsets(hour * 60 + ten * 10 + unit)]
            options = "|".join(f'"{unit}:60" {name}-f "{offset}"' for unit, offset in units)
            lines.append(f"{name}-{hour}-{ten} ::= {options}")
    lines.append(f"{name}-f ::= " + (f'("." {digits})?' if max_places is None or max_places > 0 else '""'))
    return name, "\n".join([*lines, ""])


def _offsets(minute: int) -> Iterator[str]:
    ahead = (minute - _LAST) % MINUTES
    for sign, shift in (("+", ahead), ("-", -ahead % MINUTES)) if ahead else ():
        yield f"{sign}{shift // 60:02}:{shift % 60:02}"
