"""Machines over decimal numbers: a range compared digit by digit, and the multiples of a number.

Numbers are as JSON writes them but without exponent. Both machines meet the protocol of `automaton`, which runs them.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, NamedTuple

MINUS: Final = 0x2D
POINT: Final = 0x2E
_CUTS: Final = frozenset(range(0x30, 0x3B)) | {MINUS, POINT, POINT + 1}


@dataclass(frozen=True, slots=True)
class Decimals:
    """Decimals from `low` to `high`, None being no bound; at most so many digits before and after the point.

    Bounds have to be finite decimals. `max_digits` None leaves the digits before the point uncounted.
    """

    low: Fraction | None
    high: Fraction | None
    low_is_open: bool
    high_is_open: bool
    max_digits: int | None
    max_places: int  # 0: whole numbers, written without a point


class _Bound(NamedTuple):
    """A magnitude to compare with."""

    whole: str
    places: str
    is_open: bool


class _Progress(NamedTuple):
    """What a text so far says: the phase and for each bound how the digits compare with its own, -1, 0 or 1."""

    is_negative: bool
    phase: str  # sign, zero, whole, point, places
    digits: int  # how many in this phase, as far as they matter
    low: int
    high: int


class Range:
    """Accepts the numbers of a range."""

    def __init__(self, decimals: Decimals) -> None:
        self._of = decimals
        self.cuts = _CUTS
        self.start: Hashable = "start"
        low, high = decimals.low, decimals.high
        self._bounds = {
            False: (_bound(low, decimals.low_is_open), _bound(high, decimals.high_is_open)),
            True: (
                _bound(None if high is None else -high, decimals.high_is_open),
                _bound(None if low is None else -low, decimals.low_is_open),
            ),
        }
        # No number of this sign is in the range.
        self._has_positive = high is None or high > 0 or (high == 0 and not decimals.high_is_open)
        self._has_negative = low is None or low < 0
        whole = [len(bound.whole) for pair in self._bounds.values() for bound in pair if bound]
        places = [len(bound.places) for pair in self._bounds.values() for bound in pair if bound]
        self._whole_matters = max(whole, default=0) + 1
        self._places_matter = max(places, default=0)

    def step(self, state: Hashable, point: int) -> Hashable:
        digit = chr(point) if 0x30 <= point <= 0x39 else ""
        if state == "start":
            if point == MINUS:
                return "minus" if self._has_negative else None
            return self._first(False, digit) if digit and self._has_positive else None
        if state == "minus":
            # Whole numbers have one zero.
            return self._first(True, digit) if digit and not (digit == "0" and not self._of.max_places) else None
        assert isinstance(state, _Progress)
        if point == POINT:
            if state.phase in ("zero", "whole") and self._of.max_places:
                return self._point(state)
            return None
        if not digit or state.phase == "zero":
            return None
        return self._whole(state, digit) if state.phase == "whole" else self._place(state, digit)

    def accepts(self, state: Hashable) -> bool:
        if not isinstance(state, _Progress) or state.phase == "point":
            return False
        low, high = self._bounds[state.is_negative]
        if state.phase != "places":
            ended = self._at_point(state)
            if ended is None:
                return False
            state = ended
        if low and (state.low < 0 or (state.low == 0 and (low.is_open or _rest(low, state.digits)))):
            return False
        return not (high and (state.high > 0 or (state.high == 0 and high.is_open and not _rest(high, state.digits))))

    def _first(self, is_negative: bool, digit: str) -> Hashable:
        start = _Progress(is_negative, "whole", 0, 0, 0)
        state = self._whole(start, digit)
        return state._replace(phase="zero") if digit == "0" and isinstance(state, _Progress) else state

    def _whole(self, state: _Progress, digit: str) -> Hashable:
        count = state.digits + 1
        if self._of.max_digits is not None and count > self._of.max_digits:
            return None
        low, high = self._bounds[state.is_negative]
        if high and (count > len(high.whole)):
            return None
        sides = [
            side or (_compare(digit, bound.whole[state.digits]) if bound and state.digits < len(bound.whole) else 0)
            for side, bound in ((state.low, low), (state.high, high))
        ]
        if low and count > len(low.whole):
            sides[0] = 1  # longer, so greater, whatever its digits
        if high and count == len(high.whole) and sides[1] > 0:
            return None
        counted = count if self._of.max_digits is not None else min(count, self._whole_matters)
        return _Progress(state.is_negative, "whole", counted, *sides)

    def _point(self, state: _Progress) -> Hashable:
        ended = self._at_point(state)
        return None if ended is None else ended._replace(phase="point")

    def _at_point(self, state: _Progress) -> _Progress | None:
        """The whole part is complete: a shorter one is smaller."""
        low, high = self._bounds[state.is_negative]
        first = -1 if low and state.digits < len(low.whole) else state.low
        second = -1 if high and state.digits < len(high.whole) else state.high
        if low and first < 0:
            return None
        return _Progress(state.is_negative, "places", 0, first if low else 1, second if high else -1)

    def _place(self, state: _Progress, digit: str) -> Hashable:
        if state.digits == self._of.max_places:
            return None
        low, high = self._bounds[state.is_negative]
        sides = [
            side or _compare(digit, bound.places[state.digits] if state.digits < len(bound.places) else "0")
            if bound
            else side
            for side, bound in ((state.low, low), (state.high, high))
        ]
        if (low and sides[0] < 0) or (high and sides[1] > 0):
            return None
        return _Progress(state.is_negative, "places", state.digits + 1, *sides)


def _bound(value: Fraction | None, is_open: bool) -> _Bound | None:
    """None where every magnitude, zero included, is on the right side of it or the sign is excluded already."""
    if value is None or value < 0:
        return None
    whole, rest = divmod(value, 1)
    places = ""
    while rest:
        digit, rest = divmod(rest * 10, 1)
        places += str(digit)
    return _Bound(str(whole), places, is_open)


def _rest(bound: _Bound, count: int) -> bool:
    """The bound has digits after the place that were not compared; they are not all zeros."""
    return len(bound.places) > count


def _compare(left: str, right: str) -> int:
    return (left > right) - (left < right)


class Multiple:
    """Accepts multiples of p / 10**k.

    A state is (remainder mod p of the digits so far, digits after the point so far, at most k). Digits beyond the
    k-th after the point have to be zeros.
    """

    def __init__(self, p: int, k: int) -> None:
        self._p, self._k = p, k
        self.cuts = _CUTS
        self.start: Hashable = (0, None)

    def step(self, state: Hashable, point: int) -> Hashable:
        assert isinstance(state, tuple)
        remainder, places = state
        match point:
            case 0x2D:
                return state
            case 0x2E:
                return (remainder, 0) if places is None else None
        digit = point - 0x30
        if not 0 <= digit <= 9:
            return None
        if places is not None and places == self._k:
            return state if digit == 0 else None
        return ((remainder * 10 + digit) % self._p, None if places is None else places + 1)

    def accepts(self, state: Hashable) -> bool:
        assert isinstance(state, tuple)
        remainder, places = state
        missing = self._k - (places or 0)
        return bool(remainder * 10**missing % self._p == 0)
