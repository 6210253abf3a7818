"""Whether one given value satisfies a schema: for the values of `enum` and `const`, and for names of properties.

Follows the same keywords as `shapes`, on a value instead of a language. Called by `shapes` and `disjoint`.
"""

from collections.abc import Callable
from typing import Final

from grammars.json_schema import texts
from grammars.json_schema.children import item_node, keyword, property_node
from grammars.json_schema.document import Node, Place
from grammars.json_schema.merge import Merger
from grammars.json_schema.negation import NOT_IN
from grammars.json_schema.values import exact, key, type_of, types_in


def accepts(merger: Merger, node: Node, value: object) -> bool:
    return any(way_accepts(merger, way, value) for way in merger.ways(node))


def way_accepts(merger: Merger, way: Node, value: object) -> bool:
    """All schemas of the way hold. Raises SchemaUnsupported where one of them can not be enforced."""
    if not all(_fits(merger, place, value) for place in way):
        return False
    match value:
        case str():
            return texts.accepts(way, value)
        case list():
            items = (accepts(merger, item_node(merger.document, way, i), item) for i, item in enumerate(value))
            return all(_array_fits(merger, place, value) for place in way) and all(items)
        case dict():
            fields = (accepts(merger, property_node(merger.document, way, name), v) for name, v in value.items())
            return all(_object_fits(merger, place, value) for place in way) and all(fields)
    return True


_NUMBERS: Final[dict[str, Callable[[float, float], bool]]] = {
    "minimum": lambda value, bound: exact(value) >= exact(bound),
    "maximum": lambda value, bound: exact(value) <= exact(bound),
    "exclusiveMinimum": lambda value, bound: exact(value) > exact(bound),
    "exclusiveMaximum": lambda value, bound: exact(value) < exact(bound),
    "multipleOf": lambda value, divisor: exact(value) % exact(divisor) == 0,
}


def _fits(merger: Merger, place: Place, value: object) -> bool:
    """The keywords that look at the value alone."""
    schema = place.schema
    if isinstance(schema, bool):
        return schema
    if type_of(value) not in types_in({"type": schema["type"]} if "type" in schema else {}):
        return False
    if "const" in schema and key(schema["const"]) != key(value):
        return False
    for name, is_in in (("enum", True), (NOT_IN, False)):
        if isinstance(schema.get(name), list) and (key(value) in merger.keys(place, name)) != is_in:
            return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        bounds = ((test, schema[name]) for name, test in _NUMBERS.items() if name in schema)
        return all(test(value, bound) for test, bound in bounds)  # type: ignore[arg-type]
    return True


def _array_fits(merger: Merger, place: Place, value: list[object]) -> bool:
    if not _count_fits(place, len(value), "minItems", "maxItems"):
        return False
    if keyword(place, "uniqueItems") is True and len({key(item) for item in value}) < len(value):
        return False
    if keyword(place, "contains") is None:
        return True
    node = merger.child(place, "contains")
    least = keyword(place, "minContains")
    most = keyword(place, "maxContains")
    matching = sum(accepts(merger, node, item) for item in value)
    return (1 if least is None else least) <= matching and (most is None or matching <= most)  # type: ignore[operator]


def _object_fits(merger: Merger, place: Place, value: dict[str, object]) -> bool:
    required = keyword(place, "required")
    if isinstance(required, list) and not all(name in value for name in required):
        return False
    if not _count_fits(place, len(value), "minProperties", "maxProperties"):
        return False
    if keyword(place, "propertyNames") is None:
        return True
    node = merger.child(place, "propertyNames")
    return all(accepts(merger, node, name) for name in value)


def _count_fits(place: Place, count: int, least: str, most: str) -> bool:
    low, high = keyword(place, least), keyword(place, most)
    return (low is None or count >= low) and (high is None or count <= high)  # type: ignore[operator]
