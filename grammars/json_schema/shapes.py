"""A schema as a union of shapes: one constraint on one JSON type each, parts held as nodes that are looked at later.

This is where keywords that say nothing about a type fall away: `minLength` leaves numbers as they are, since a shape is
made for each type that the schema admits. Called by `convert` and `disjoint`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

from grammars.automaton import Language
from grammars.errors import SchemaUnsupported
from grammars.json_schema import formats
from grammars.json_schema.children import has, item_node, keyword, num_prefix_items
from grammars.json_schema.document import Node, Place
from grammars.json_schema.fields import Object, object_shape
from grammars.json_schema.members import way_accepts
from grammars.json_schema.merge import Merger, types_of
from grammars.json_schema.texts import languages_of
from grammars.json_schema.values import canonical, exact, key, written

MAX_UNIQUE: Final = 6  # values of which arrays without repetition are written out


@dataclass(frozen=True, slots=True)
class Values:
    """Exactly these, `null` and the booleans among them; as JSON texts in our own spelling with the values."""

    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Number:
    low: Fraction | None
    high: Fraction | None
    low_is_open: bool
    high_is_open: bool
    is_integer: bool
    multiple_of: Fraction | None
    place: Place | None  # whom to name where the range can not be written


@dataclass(frozen=True, slots=True)
class Text:
    language: Language
    place: Place | None


@dataclass(frozen=True, slots=True)
class Array:
    """`prefix` by index, `rest` beyond it, `low` to `high` items; `unique` are the JSON texts of a set's values."""

    prefix: tuple[Node, ...]
    rest: Node
    low: int
    high: int | None
    unique: tuple[str, ...] | None


Shape: TypeAlias = Values | Number | Text | Array | Object


def shapes(merger: Merger, node: Node) -> list[Shape]:
    """Their union is what the node admits. Raises SchemaUnsupported."""
    return [shape for way in merger.ways(node) for shape in shapes_of(merger, way)]


def shapes_of(merger: Merger, way: Node) -> list[Shape]:
    """The shapes of one way; no value has two of them."""
    found = merger.known_shapes.get(way)
    if found is None:
        found = merger.known_shapes[way] = _shapes_of(merger, way)
    return found


def _shapes_of(merger: Merger, way: Node) -> list[Shape]:
    listed = _listed(way)
    if listed is not None:
        kept = [canonical(value) for value in listed if way_accepts(merger, way, value)]
        return [Values(tuple({key(value): value for value in kept}.values()))] if kept else []
    types = types_of(way)
    found: list[Shape] = []
    simple = [value for value, t in ((None, "null"), (True, "boolean"), (False, "boolean")) if t in types]
    simple = [value for value in simple if way_accepts(merger, way, value)]
    if simple:
        found.append(Values(tuple(simple)))
    if types & {"integer", "fraction"}:
        found.extend(_numbers(way, types))
    if "string" in types:
        place = _first(way, "pattern", "format", "maxLength", "minLength")
        found.extend(Text(language, place) for language in languages_of(way))
    if "array" in types:
        found.extend(_array(merger, way))
    if "object" in types:
        shape = object_shape(merger, way)
        found.extend([shape] if shape else [])
    return found


def _listed(way: Node) -> list[object] | None:
    """The values of the first `const` or `enum`; the others are conditions on them."""
    for place in way:
        if has(place, "const"):
            return [keyword(place, "const")]
        values = keyword(place, "enum")
        if isinstance(values, list):
            return values
    return None


def _first(way: Node, *names: str) -> Place | None:
    return next((place for name in names for place in way if has(place, name)), None)


def _bounds(way: Node, name: str) -> list[Fraction]:
    values = (keyword(place, name) for place in way)
    return [exact(value) for value in values if isinstance(value, int | float)]


def _numbers(way: Node, types: frozenset[str]) -> Iterable[Number]:
    """One shape, or none where the range is empty. A fraction alone, without the integers, no schema can say."""
    lows = [(bound, False) for bound in _bounds(way, "minimum")]
    lows += [(bound, True) for bound in _bounds(way, "exclusiveMinimum")]
    highs = [(bound, False) for bound in _bounds(way, "maximum")]
    highs += [(bound, True) for bound in _bounds(way, "exclusiveMaximum")]
    for place in way:
        bits = formats.INTEGER_BITS.get(str(keyword(place, "format")))
        if bits:
            lows.append((Fraction(-(2 ** (bits - 1))), False))
            highs.append((Fraction(2 ** (bits - 1) - 1), False))
    low, low_is_open = max(lows, default=(None, False))
    high, high_is_open = min(highs, key=lambda bound: (bound[0], not bound[1]), default=(None, False))
    if low is not None and high is not None and (low > high or (low == high and (low_is_open or high_is_open))):
        return
    blamed = _first(way, "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    if "integer" not in types:
        raise SchemaUnsupported("not", _pointer(way), "numbers that are no integers can not be told apart")
    steps = _bounds(way, "multipleOf")
    step = steps[0] if steps else None
    for other in steps[1:]:
        step = _common_multiple(step or other, other)
    yield Number(low, high, low_is_open, high_is_open, "fraction" not in types, step, blamed)


def _pointer(way: Node) -> str:
    return way[0].pointer if way else "#"


def _common_multiple(left: Fraction, right: Fraction) -> Fraction:
    """The least number that both divide."""
    quotient = left / right
    return left * quotient.denominator


def _array(merger: Merger, way: Node) -> Iterable[Array]:
    low = max((int(bound) for bound in _bounds(way, "minItems")), default=0)
    high = min((int(bound) for bound in _bounds(way, "maxItems")), default=None)
    for place in way:
        if has(place, "contains"):
            least, most = _contained(place)
            low = max(low, least)
            high = most if high is None else high if most is None else min(high, most)
    num_prefix = num_prefix_items(way)
    prefix = tuple(item_node(merger.document, way, index) for index in range(num_prefix))
    rest = item_node(merger.document, way, num_prefix)
    if high is not None and low > high:
        return
    unique = None
    owner = next((place for place in way if keyword(place, "uniqueItems") is True), None)
    if owner is not None and (high is None or high > 1):
        unique = _unique(merger, owner, prefix, rest)
    yield Array(prefix, rest, low, high, unique)


def _contained(place: Place) -> tuple[int, int | None]:
    """`contains` with a schema of everything counts the items; any other is refused."""
    schema = keyword(place, "contains")
    if schema is not True and schema != {}:
        raise SchemaUnsupported("contains", place.pointer, "only counting all items is supported")
    (least,) = _bounds((place,), "minContains") or [Fraction(1)]
    most = _bounds((place,), "maxContains")
    return int(least), int(most[0]) if most else None


def _unique(merger: Merger, owner: Place, prefix: tuple[Node, ...], rest: Node) -> tuple[str, ...]:
    found = [] if prefix else shapes(merger, rest)
    values = {key(value): written(value) for shape in found if isinstance(shape, Values) for value in shape.values}
    is_finite = not prefix and all(isinstance(shape, Values) for shape in found)
    if not is_finite or len(values) > MAX_UNIQUE:
        reason = f"only for items of an enum of at most {MAX_UNIQUE} values, or for at most one item"
        raise SchemaUnsupported("uniqueItems", owner.pointer, reason)
    return tuple(values.values())
