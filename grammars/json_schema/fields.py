"""The objects that the schemas of one way admit: fields in a fixed order, then further properties by kinds of name.

Called by `shapes`; `objects` writes them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

from grammars.automaton import Language
from grammars.errors import SchemaUnsupported
from grammars.json_schema.children import additional, expression, joined, keyword, mapping, property_node
from grammars.json_schema.document import Node, Place
from grammars.json_schema.members import accepts
from grammars.json_schema.merge import Merger, types_of
from grammars.json_schema.texts import languages_of

MAX_PATTERNS: Final = 4


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    node: Node
    is_required: bool


@dataclass(frozen=True, slots=True)
class Object:
    """Fields in the order of the schema, then any number of `extras`: names of a language, none of them `taken`."""

    fields: tuple[Field, ...]
    extras: tuple[tuple[Language, Node], ...]
    taken: tuple[str, ...]
    low: int
    high: int | None
    place: Place | None  # whom to name where the number of properties can not be held


def object_shape(merger: Merger, way: Node) -> Object | None:
    """None where no object satisfies the way. Raises SchemaUnsupported."""
    required = dict.fromkeys(name for place in way for name in _names(place, "required"))
    names = dict.fromkeys(name for place in way for name in mapping(place, "properties")) | required
    names_node = joined(merger.child(place, "propertyNames") for place in way if _has_names(place))
    listed, languages = _admitted(merger, names_node)
    names |= dict.fromkeys(listed)
    fields = []
    for name in names:
        node = property_node(merger.document, way, name)
        is_possible = _is_possible(node) and (not names_node or accepts(merger, names_node, name))
        if not is_possible and name in required:
            return None
        if is_possible:
            fields.append(Field(name, node, name in required))
    low = max((_count(place, "minProperties", 0) for place in way), default=0)
    highs = [_count(place, "maxProperties", 0) for place in way if keyword(place, "maxProperties") is not None]
    high = min(highs, default=None)
    if high is not None and (low > high or len(required) > high):
        return None
    owner = next((place for place in way if keyword(place, "minProperties") is not None), None)
    extras = tuple(_extras(merger, way, languages))
    return Object(tuple(fields), extras, tuple(names), low, high, owner)


def _names(place: Place, name: str) -> list[str]:
    value = keyword(place, name)
    return value if isinstance(value, list) else []


def _has_names(place: Place) -> bool:
    return keyword(place, "propertyNames") is not None


def _count(place: Place, name: str, default: int) -> int:
    value = keyword(place, name)
    return int(value) if isinstance(value, int | float) else default


def _is_possible(node: Node) -> bool:
    """Not refused outright; what is empty for a deeper reason drops out of the finished rules."""
    return all(place.schema is not False for place in node)


def _admitted(merger: Merger, names: Node) -> tuple[list[str], list[Language]]:
    """What `propertyNames` leaves: names by themselves, and languages of names."""
    listed: list[str] = []
    languages: list[Language] = []
    for way in merger.ways(names):
        if "string" not in types_of(way):
            continue
        values = [v for place in way for v in [*_names(place, "enum"), keyword(place, "const")] if isinstance(v, str)]
        if values:
            listed.extend(values)  # each is checked against the whole later
        else:
            languages.extend(languages_of(way))
    return listed, languages


def _extras(merger: Merger, way: Node, languages: list[Language]) -> Iterator[tuple[Language, Node]]:
    """By each combination of patterns that a name may match or not, what its value has to be."""
    patterns = {pattern: place for place in way for pattern in mapping(place, "patternProperties")}
    if len(patterns) > MAX_PATTERNS:
        place = next(iter(patterns.values()))
        reason = f"{len(patterns)} patterns meet in one object; the limit is {MAX_PATTERNS}"
        raise SchemaUnsupported("patternProperties", place.pointer, reason)
    trees = {pattern: expression(place, "patternProperties", pattern) for pattern, place in patterns.items()}
    for signs in product((True, False), repeat=len(patterns)):
        matched = {pattern for pattern, is_matched in zip(patterns, signs, strict=True) if is_matched}
        node = joined(_extra(merger, place, matched) for place in way)
        if not _is_possible(node):
            continue
        conditions = Language(
            somewhere=tuple(trees[p] for p in patterns if p in matched),
            nowhere=tuple(trees[p] for p in patterns if p not in matched),
        )
        for language in languages:
            both = language.also(conditions)
            if not merger.is_empty(both, next(iter(patterns.values()), None), "patternProperties"):
                yield both, node


def _extra(merger: Merger, place: Place, matched: set[str]) -> Node:
    own = [pattern for pattern in mapping(place, "patternProperties") if pattern in matched]
    if own:
        return joined(merger.child(place, "patternProperties", pattern) for pattern in own)
    return additional(merger.document, place)
