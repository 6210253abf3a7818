"""Proofs that no value satisfies both of two options, which is what makes a `oneOf` an `anyOf`.

A proof may fail where there is one to be found; then the schema is refused. Called by `merge` through `convert`.
"""

from typing import Final

from grammars.json_schema.children import item_node, keyword, property_node
from grammars.json_schema.document import Node
from grammars.json_schema.fields import Object
from grammars.json_schema.members import accepts, way_accepts
from grammars.json_schema.merge import Merger, Ways, types_of
from grammars.json_schema.shapes import Array, Number, Shape, Text, Values, shapes_of

MAX_DEPTH: Final = 4


def are_disjoint(merger: Merger, left: Ways, right: Ways, depth: int = 0) -> bool:
    """No value satisfies a way of each. Raises SchemaUnsupported for what can not be enforced anyway."""
    if depth > MAX_DEPTH:
        return False
    return all(_ways_disjoint(merger, one, other, depth) for one in left for other in right)


def _ways_disjoint(merger: Merger, left: Node, right: Node, depth: int) -> bool:
    if not types_of(left + right):
        return True
    return all(
        _shapes_disjoint(merger, (left, one), (right, other), depth)
        for one in shapes_of(merger, left)
        for other in shapes_of(merger, right)
    )


def _shapes_disjoint(merger: Merger, left: tuple[Node, Shape], right: tuple[Node, Shape], depth: int) -> bool:
    for (_, one), (way, _other) in ((left, right), (right, left)):
        if isinstance(one, Values):
            return not any(way_accepts(merger, way, value) for value in one.values)
    match left[1], right[1]:
        case Number() as one, Number() as other:
            return _numbers_disjoint(one, other)
        case Text() as one, Text() as other:
            return merger.is_empty(one.language.also(other.language), one.place or other.place, "oneOf")
        case Array() as one, Array() as other:
            return _arrays_disjoint(merger, (left[0], one), (right[0], other), depth)
        case Object() as one, Object() as other:
            return _objects_disjoint(merger, (left[0], one), (right[0], other), depth)
    return True


def _numbers_disjoint(left: Number, right: Number) -> bool:
    for one, other in ((left, right), (right, left)):
        if one.high is not None and other.low is not None:
            if one.high < other.low or (one.high == other.low and (one.high_is_open or other.low_is_open)):
                return True
    return False


def _arrays_disjoint(merger: Merger, left: tuple[Node, Array], right: tuple[Node, Array], depth: int) -> bool:
    for (_, one), (_, other) in ((left, right), (right, left)):
        if one.high is not None and one.high < other.low:
            return True
    both = max(left[1].low, right[1].low)
    length = max(len(left[1].prefix), len(right[1].prefix)) + 1
    nodes = [
        [item_node(merger.document, way, index) for way in (left[0], right[0])] for index in range(min(both, length))
    ]
    return any(are_disjoint(merger, merger.ways(one), merger.ways(other), depth + 1) for one, other in nodes)


def _objects_disjoint(merger: Merger, left: tuple[Node, Object], right: tuple[Node, Object], depth: int) -> bool:
    """Some property is there in both and can not have a value that suits both, or one of them does not admit it."""
    for (_, one), (way, other) in ((left, right), (right, left)):
        if other.high is not None and sum(field.is_required for field in one.fields) > other.high:
            return True
        for field in one.fields:
            if field.is_required and not _admits_name(merger, way, field.name):
                return True
            node = property_node(merger.document, way, field.name)
            if field.is_required and are_disjoint(merger, merger.ways(field.node), merger.ways(node), depth + 1):
                return True
    return False


def _admits_name(merger: Merger, way: Node, name: str) -> bool:
    owners = (place for place in way if keyword(place, "propertyNames") is not None)
    return all(accepts(merger, merger.child(place, "propertyNames"), name) for place in owners)
