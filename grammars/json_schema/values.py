"""JSON values: their types, their equality, and exact numbers.

JSON knows one kind of number, so 1 and 1.0 are equal and both are integers, while `true` is never 1.
"""

import json
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

# `fraction` is a number that is no integer; together with `integer` it makes JSON's `number`.
TYPES: Final = ("null", "boolean", "integer", "fraction", "string", "array", "object")
ALL_TYPES: Final = frozenset(TYPES)


def type_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "fraction"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def exact(number: int | float) -> Fraction:
    """The number as it was written: 0.1 is a tenth, not the nearest binary fraction."""
    return Fraction(number) if isinstance(number, int) else Fraction(Decimal(repr(number)))


def canonical(value: object) -> object:
    """Whole floats as integers, deeply: as we write values."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [canonical(item) for item in value]
        case dict():
            return {name: canonical(item) for name, item in value.items()}
    return value


def key(value: object) -> str:
    """Equal for JSON values that are equal, and for no others."""
    return json.dumps(canonical(value), ensure_ascii=False, sort_keys=True)


def types_in(schema: Mapping[str, object]) -> frozenset[str]:
    """The types that `type`, `const` and `enum` leave."""
    types = ALL_TYPES
    if "type" in schema:
        named = schema["type"]
        names: list[str] = named if isinstance(named, list) else [str(named)]
        types = frozenset(t for name in names for t in (("integer", "fraction") if name == "number" else (name,)))
    if "const" in schema:
        types &= {type_of(schema["const"])}
    values = schema.get("enum")
    if isinstance(values, list):
        types &= {type_of(value) for value in values}
    return types


def written(value: object) -> str:
    """The value in our own spelling, with one space after each colon and comma."""
    return json.dumps(canonical(value), ensure_ascii=False)
