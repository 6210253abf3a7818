"""The opposite of a schema, for `not` and for the else side of `if`, where it is a schema again.

Type-agnostic keywords make this safe only case by case: `not {"required": ["a"]}` is an object without `a`, since every
other value satisfies what is negated. Called by `merge`.
"""

from collections.abc import Mapping
from typing import Final, TypeAlias

from grammars.json_schema import keywords
from grammars.json_schema.values import ALL_TYPES, type_of, types_in

Schemas: TypeAlias = list[dict[str, object]]

# Keywords of our own; no client can write them, since they are in no list of known names.
NOT_IN: Final = "!notIn"
NOT_PATTERN: Final = "!notPattern"
OWN: Final = frozenset({NOT_IN, NOT_PATTERN})

# The type that a bound speaks of, the bound on the other side, and by how much a count is away from it.
_OPPOSITES: Final[dict[str, tuple[str, str, int]]] = {
    "minimum": ("number", "exclusiveMaximum", 0),
    "maximum": ("number", "exclusiveMinimum", 0),
    "exclusiveMinimum": ("number", "maximum", 0),
    "exclusiveMaximum": ("number", "minimum", 0),
    "minLength": ("string", "maxLength", -1),
    "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1),
    "maxItems": ("array", "minItems", 1),
    "minProperties": ("object", "maxProperties", -1),
    "maxProperties": ("object", "minProperties", 1),
}


def negation(schema: Mapping[str, object] | bool) -> Schemas | None:
    """Schemas of which one holds exactly where the given one does not; None where we do not know them."""
    if isinstance(schema, bool):
        return [] if schema else [{}]
    found: Schemas = []
    for name in schema:
        opposite = [] if name in keywords.ANNOTATIONS else _of_keyword(schema, name)
        if opposite is None:
            return None
        found.extend(opposite)
    return found


def _of_keyword(schema: Mapping[str, object], name: str) -> Schemas | None:
    value = schema[name]
    if name in _OPPOSITES and isinstance(value, int | float):
        kind, opposite, shift = _OPPOSITES[name]
        return [{"type": kind, opposite: value + shift}] if value + shift >= 0 or not shift else []
    match name:
        case "type":
            left = ALL_TYPES - types_in({"type": value})
            return [{"type": sorted(left)}] if left else []
        case "const":
            return _not_in([value])
        case "enum" if isinstance(value, list):
            return _not_in(value)
        case "pattern":
            return [{"type": "string", NOT_PATTERN: value}]
        case "required" if isinstance(value, list):
            return [{"type": "object", "properties": {missing: False}} for missing in value]
        case "properties" if isinstance(value, dict):
            return _of_properties(value)
        case "not" if isinstance(value, dict | bool):
            return [{}] if value is True else [] if value is False else [value]
    return None


def _not_in(values: list[object]) -> Schemas | None:
    simple = all(type_of(value) in ("null", "boolean", "string") for value in values)
    return [{NOT_IN: values}] if simple else None


def _of_properties(properties: Mapping[str, object]) -> Schemas | None:
    """Some property is there and does not satisfy its schema."""
    found: Schemas = []
    for name, schema in properties.items():
        opposite = negation(schema) if isinstance(schema, dict | bool) else None
        if opposite is None:
            return None
        found += [{"type": "object", "required": [name], "properties": {name: option}} for option in opposite]
    return found
