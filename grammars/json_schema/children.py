"""What the schemas of one way say of a value's parts: of the property with a name, of the item at an index.

`additionalProperties` and `additionalItems` look at their own schema's neighbours only, so each schema of the way is
asked alone. Called by `shapes`, `members` and `disjoint`.
"""

from collections.abc import Iterable

from grammars.automaton import Language
from grammars.errors import RegexUnsupported, SchemaUnsupported
from grammars.json_schema.document import Document, Node, Place
from grammars.regex import parse
from grammars.regex_tree import Node as Expression

_IN_PLACE = frozenset("$ref allOf anyOf oneOf not if dependentSchemas dependencies".split())


def joined(nodes: Iterable[Node]) -> Node:
    """All of them at once."""
    return tuple(dict.fromkeys(place for node in nodes for place in node if place.schema is not True))


def keyword(place: Place, name: str) -> object:
    return place.schema.get(name) if not isinstance(place.schema, bool) else None


def mapping(place: Place, name: str) -> dict[str, object]:
    value = keyword(place, name)
    return value if isinstance(value, dict) else {}


def has(place: Place, name: str) -> bool:
    return not isinstance(place.schema, bool) and name in place.schema


def expression(place: Place, name: str, pattern: str) -> Expression:
    """The pattern's tree. Raises SchemaUnsupported for what `regex` refuses."""
    try:
        return parse(pattern)
    except RegexUnsupported as fault:
        raise SchemaUnsupported(name, place.pointer, str(fault)) from fault


def property_node(document: Document, way: Node, name: str) -> Node:
    return joined(_property(document, place, name) for place in way)


def _property(document: Document, place: Place, name: str) -> Node:
    found: list[Place] = []
    if name in mapping(place, "properties"):
        found.append(document.at(place, "properties", name))
    for pattern in mapping(place, "patternProperties"):
        if Language(somewhere=(expression(place, "patternProperties", pattern),)).accepts(name):
            found.append(document.at(place, "patternProperties", pattern))
    return tuple(found) or additional(document, place)


def additional(document: Document, place: Place) -> Node:
    """Of properties that the schema's own `properties` and `patternProperties` do not name."""
    if has(place, "additionalProperties"):
        return (document.at(place, "additionalProperties"),)
    return _unevaluated(document, place, "unevaluatedProperties")


def item_node(document: Document, way: Node, index: int) -> Node:
    return joined(_item(document, place, index) for place in way)


def num_prefix_items(way: Node) -> int:
    """From this index on, all items have one node."""
    return max((len(_prefix(place)[1]) for place in way), default=0)


def _prefix(place: Place) -> tuple[str, list[object]]:
    for name in ("prefixItems", "items"):
        value = keyword(place, name)
        if isinstance(value, list):
            return name, value
    return "", []


def _item(document: Document, place: Place, index: int) -> Node:
    name, prefix = _prefix(place)
    if index < len(prefix):
        return (document.at(place, name, index),)
    rest = "additionalItems" if name == "items" else "items"
    if has(place, rest):
        return (document.at(place, rest),)
    return _unevaluated(document, place, "unevaluatedItems")


def _unevaluated(document: Document, place: Place, name: str) -> Node:
    """As the additional ones, where no neighbour could have evaluated anything."""
    if not has(place, name) or keyword(place, name) is True:
        return ()
    beside = _IN_PLACE | ({"contains"} if name == "unevaluatedItems" else set())
    neighbours = sorted(beside & set(place.schema)) if not isinstance(place.schema, bool) else []
    if neighbours:
        raise SchemaUnsupported(name, place.pointer, f"not beside {', '.join(neighbours)}")
    return (document.at(place, name),)
