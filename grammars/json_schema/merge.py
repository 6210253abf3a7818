"""Schemas without applicators: every way to satisfy a schema as a set of plain schemas that hold at once.

`$ref` and `allOf` add to the set, `anyOf`, `oneOf`, `if` and dependencies multiply the ways. Ways whose types
exclude one another are dropped at once. Called by `shapes`, `members` and `disjoint`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from grammars.automaton import Language
from grammars.errors import SchemaUnsupported
from grammars.json_schema import keywords
from grammars.json_schema.document import Document, Node, Place
from grammars.json_schema.negation import negation
from grammars.json_schema.texts import emptiness
from grammars.json_schema.values import ALL_TYPES, key, types_in

MAX_WAYS: Final = 512  # of one schema
MAX_CHAIN: Final = 64  # references and applicators on the way to one plain schema
MAX_WORK: Final = 40_000  # ways looked at for one document
MAX_STEPS: Final = 100_000  # of automata that are only asked whether they are empty

Ways: TypeAlias = tuple[Node, ...]
Proof: TypeAlias = Callable[["Merger", Ways, Ways], bool]

_APPLICATORS: Final = frozenset(
    "$ref allOf anyOf oneOf not if then else dependentSchemas dependentRequired dependencies".split()
)
_NON_OBJECTS: Final = {"type": sorted(ALL_TYPES - {"object"})}


class Merger:
    """Ways of one document, remembered. `are_disjoint` proves that no value satisfies two options of a oneOf."""

    def __init__(self, document: Document, are_disjoint: Proof) -> None:
        self.document = document
        self._are_disjoint = are_disjoint
        self.known_shapes: dict[Node, list[Any]] = {}  # kept by `shapes`
        self._of_place: dict[Place, Ways] = {}
        self._of_node: dict[Node, Ways] = {}
        self._proving: set[Place] = set()
        self._keys: dict[tuple[Place, str], frozenset[str]] = {}
        self._steps = 0
        self._work = 0

    def ways(self, node: Node) -> Ways:
        """Raises SchemaUnsupported. No way at all means that no value satisfies the node."""
        if node not in self._of_node:
            self._of_node[node] = self._all(node, ())
        return self._of_node[node]

    def keys(self, place: Place, name: str) -> frozenset[str]:
        """The keys of the values that a schema lists under a name."""
        if (place, name) not in self._keys:
            listed = place.schema.get(name) if isinstance(place.schema, Mapping) else None
            self._keys[place, name] = (
                frozenset(key(value) for value in listed) if isinstance(listed, list) else frozenset()
            )
        return self._keys[place, name]

    def is_empty(self, language: Language, place: Place | None, name: str) -> bool:
        """No text has the language. Raises SchemaUnsupported where that takes too long, all such questions counted."""
        empty, steps = emptiness(language, place, name)
        self._steps += steps
        if self._steps > MAX_STEPS:
            reason = f"to compare the document's patterns takes more than {MAX_STEPS:,} steps"
            raise SchemaUnsupported(name, place.pointer if place else "#", reason)
        return empty

    def child(self, place: Place, *tokens: str | int) -> Node:
        return (self.document.at(place, *tokens),)

    def _all(self, node: Node, path: tuple[Place, ...]) -> Ways:
        ways: Ways = ((),)
        for place in node:
            ways = self._product(ways, self._of(place, path), place)
        return ways

    def _product(self, ways: Ways, others: Ways, place: Place) -> Ways:
        if ways == ((),):
            return others
        found: dict[frozenset[Place], Node] = {}
        self._spend(len(ways) * len(others), place)
        for way in ways:
            for other in others:
                both = way + tuple(p for p in other if p not in way)
                if types_of(both):
                    found.setdefault(frozenset(both), both)
        if len(found) > MAX_WAYS:
            raise SchemaUnsupported("anyOf", place.pointer, f"more than {MAX_WAYS} combinations of options")
        return tuple(found.values())

    def _spend(self, work: int, place: Place) -> None:
        self._work += work
        if self._work > MAX_WORK:
            raise SchemaUnsupported("anyOf", place.pointer, f"more than {MAX_WORK:,} combinations in the document")

    def _of(self, place: Place, path: tuple[Place, ...]) -> Ways:
        if place in path:
            raise SchemaUnsupported("$ref", place.pointer, "it refers to itself without going into the value")
        if len(path) == MAX_CHAIN:
            raise SchemaUnsupported(
                "$ref", place.pointer, f"more than {MAX_CHAIN} schemas refer to one another in a row"
            )
        if place not in self._of_place:
            self._of_place[place] = self._expand(place, (*path, place))
        return self._of_place[place]

    def _expand(self, place: Place, path: tuple[Place, ...]) -> Ways:
        schema = place.schema
        if isinstance(schema, bool):
            return ((),) if schema else ()
        is_draft_7 = self.document.is_draft_7
        is_reference = is_draft_7 and "$ref" in schema  # whatever stands beside it is ignored there
        if not place.is_own:
            checked = {"$ref": schema["$ref"]} if is_reference else schema
            keywords.check(checked, place.pointer, is_draft_7)
        if is_reference:
            return self._of(self.document.target(place, str(schema["$ref"])), path)
        constrains = any(name not in keywords.ANNOTATIONS and name not in _APPLICATORS for name in schema)
        ways: Ways = ((place,),) if constrains and types_in(schema) else () if constrains else ((),)
        for name in schema:
            for options in self._options(place, schema, name):
                ways = self._product(ways, self._any(options, path), place)
            if name == "oneOf":
                self._check_one_of(place, schema, path)
        return ways

    def _any(self, options: Sequence[Node], path: tuple[Place, ...]) -> Ways:
        found: dict[frozenset[Place], Node] = {}
        for option in options:
            for way in self._all(option, path):
                found.setdefault(frozenset(way), way)
        return tuple(found.values())

    def _options(self, place: Place, schema: Mapping[str, object], name: str) -> list[list[Node]]:
        """What a keyword comes to: conditions that all hold, each a list of options of which one has to."""
        value = schema[name]
        match name:
            case "$ref":
                return [[(self.document.target(place, str(value)),)]]
            case "allOf" if isinstance(value, list):
                return [[self.child(place, name, index)] for index in range(len(value))]
            case "anyOf" | "oneOf" if isinstance(value, list):
                return [[self.child(place, name, index) for index in range(len(value))]]
            case "not":
                return [self._negated(place, name)]
            case "if":
                return self._conditional(place, schema)
            case "dependentSchemas" | "dependentRequired" | "dependencies" if isinstance(value, dict):
                return [self._dependency(place, name, trigger, needed) for trigger, needed in value.items()]
        return []

    def _negated(self, place: Place, name: str) -> list[Node]:
        inner = self.document.at(place, name)
        schemas = negation(inner.schema)
        if schemas is None:
            raise SchemaUnsupported(name, place.pointer, "what it excludes can not be turned into what is left")
        return [(self.document.graft(inner.child("!", n), schema),) for n, schema in enumerate(schemas)]

    def _conditional(self, place: Place, schema: Mapping[str, object]) -> list[list[Node]]:
        if not {"then", "else"} & schema.keys():
            return []
        then = self.child(place, "then") if "then" in schema else ()
        otherwise = self.child(place, "else") if "else" in schema else ()
        fulfilled = (*self.child(place, "if"), *then)
        return [[fulfilled, *((*unmet, *otherwise) for unmet in self._negated(place, "if"))]]

    def _dependency(self, place: Place, keyword: str, trigger: str, needed: object) -> list[Node]:
        pointer = place.child(keyword, trigger, "!")
        absent = {"type": "object", "properties": {trigger: False}}
        names = [trigger, *needed] if isinstance(needed, list) else [trigger]
        if not all(isinstance(name, str) for name in names):
            raise SchemaUnsupported(keyword, place.pointer, "its value has to be a list of names")
        present = self.document.graft(f"{pointer}/present", {"type": "object", "required": names})
        rest = () if isinstance(needed, list) else self.child(place, keyword, trigger)
        without = self.document.graft(f"{pointer}/absent", absent)
        return [(present, *rest), (without,), (self.document.graft(f"{pointer}/other", _NON_OBJECTS),)]

    def _check_one_of(self, place: Place, schema: Mapping[str, object], path: tuple[Place, ...]) -> None:
        if place in self._proving:
            return  # inside its own proof the value is a part of the value that the proof is about: by induction
        options = schema["oneOf"]
        assert isinstance(options, list)
        self._proving.add(place)
        beside = {name: value for name, value in schema.items() if name not in _APPLICATORS}
        self._spend(len(options) ** 2, place)
        own: Ways = ((place,),) if any(name not in keywords.ANNOTATIONS for name in beside) else ((),)
        each = [self._product(own, self._all(self.child(place, "oneOf", n), path), place) for n in range(len(options))]
        for index, left in enumerate(each):
            for other, right in enumerate(each[:index]):
                if not self._are_disjoint(self, left, right):
                    reason = f"no proof that a value can not satisfy both option {other} and option {index}"
                    raise SchemaUnsupported("oneOf", place.pointer, reason)
        self._proving.remove(place)


def types_of(way: Node) -> frozenset[str]:
    """The types that a set of plain schemas leaves."""
    types = ALL_TYPES
    for place in way:
        if isinstance(place.schema, Mapping):
            types &= types_in(place.schema)
    return types
