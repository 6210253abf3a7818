"""Numbers as GBNF: the common ones written out, every other range by an automaton over the digits.

Written without exponent where there is a bound or a multiple, so that digits can be compared. What is longer than
`MAX_DIGITS` before or `MAX_PLACES` after the point can not be written. Called by `convert`.
"""

from fractions import Fraction
from typing import Final

from grammars.automaton import Language
from grammars.decimal_machines import Decimals
from grammars.errors import SchemaUnsupported
from grammars.json_schema.shapes import Number

MAX_DIGITS: Final = 60
MAX_PLACES: Final = 20
MAX_STEP: Final = 1_000
_LARGEST: Final = Fraction(10**MAX_DIGITS)

_MORE: Final = f"[0-9]{{1,{MAX_DIGITS - 1}}}"
_PLACES: Final = f'("." [0-9]{{1,{MAX_PLACES}}})?'
# Up to 307: with one digit before the point, every reader takes it for a finite number.
_EXPONENT: Final = '([eE] [-+]? ([0-9] | [1-9] [0-9] | [12] [0-9] [0-9] | "30" [0-7]))?'
_MAGNITUDE: Final = f'("0" {_PLACES} | [1-9] ({_PLACES} {_EXPONENT} | {_MORE} {_PLACES}))'
_POSITIVE: Final = f"[1-9] ({_MORE})?"


def common(shape: Number) -> str:
    """GBNF of a number without bounds, or with none but zero or one below; empty for any other."""
    if shape.multiple_of is not None or shape.high is not None:
        return ""
    if shape.low is None:
        return f'"0" | "-"? {_POSITIVE}' if shape.is_integer else f'"-"? {_MAGNITUDE}'
    if shape.low == 0 and not shape.low_is_open:
        return f'"0" | {_POSITIVE}' if shape.is_integer else _MAGNITUDE
    if shape.is_integer and shape.low == (0 if shape.low_is_open else 1):
        return _POSITIVE
    return ""


def language(shape: Number) -> Language:
    """The numbers of a shape as decimal texts. Raises SchemaUnsupported."""
    low, high = shape.low, shape.high
    if (low is not None and low >= _LARGEST) or (high is not None and high <= -_LARGEST):
        raise _fault(shape, f"no number of at most {MAX_DIGITS} digits is in its range")
    low = None if low is not None and low <= -_LARGEST else low
    high = None if high is not None and high >= _LARGEST else high
    if any(_places(bound) > MAX_PLACES for bound in (low, high) if bound is not None):
        raise _fault(shape, f"a bound has more than {MAX_PLACES} digits after the point")
    places = 0 if shape.is_integer else MAX_PLACES
    if shape.multiple_of is None:
        return Language(decimals=Decimals(low, high, shape.low_is_open, shape.high_is_open, MAX_DIGITS, places))
    p, k = _step(shape, shape.multiple_of)
    # Remainders times digits would be too many states.
    digits = MAX_DIGITS if p == 1 else None
    decimals = Decimals(low, high, shape.low_is_open, shape.high_is_open, digits, min(places, k))
    return Language(decimals=decimals, multiple_of=(p, k))


def _step(shape: Number, step: Fraction) -> tuple[int, int]:
    """The step as p / 10**k."""
    k = _places(step)
    p = step * 10**k
    if k > MAX_PLACES or p > MAX_STEP:
        reason = (
            f"{float(step)} has more than {MAX_PLACES} digits after the point or is more than {MAX_STEP:,} of its units"
        )
        raise SchemaUnsupported("multipleOf", shape.place.pointer if shape.place else "#", reason)
    return int(p), k


def _places(value: Fraction) -> int:
    """Digits after the point of a finite decimal."""
    places = 0
    while value.denominator != 1:
        value *= 10
        places += 1
    return places


def _fault(shape: Number, reason: str) -> SchemaUnsupported:
    name = "minimum" if shape.low is not None else "maximum"
    return SchemaUnsupported(name, shape.place.pointer if shape.place else "#", reason)
