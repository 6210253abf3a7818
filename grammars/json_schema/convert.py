"""The entry: a schema document to a grammar whose texts are instances of it, in one fixed style.

One rule for each set of schemas that meet in a value, so that recursion in the schema is recursion in the grammar.
Called by the compiler for a `json_schema` request.
"""

from dataclasses import replace
from typing import Final

from grammars.automaton import Language
from grammars.errors import SchemaUnsupported
from grammars.json_schema.arrays import write_array
from grammars.json_schema.disjoint import are_disjoint
from grammars.json_schema.document import Document, Draft, Node, Place
from grammars.json_schema.fields import Object
from grammars.json_schema.keywords import ANNOTATIONS
from grammars.json_schema.merge import Merger
from grammars.json_schema.objects import write_object
from grammars.json_schema.ranges import common, language
from grammars.json_schema.shapes import Array, Number, Shape, Text, Values, shapes
from grammars.json_schema.strings import Strings
from grammars.json_schema.values import written
from grammars.rules import Alternative, GrammarTooLarge, Ref, Rules

_ALL_NUMBERS: Final = Number(None, None, False, False, is_integer=False, multiple_of=None, place=None)


def to_gbnf(schema: object, draft: Draft | None = None, asserts_formats: bool = True) -> str:
    """Every text of the grammar is an instance, and every instance has a text, its properties in the schema's order.

    The draft is the one that `$schema` names, else 2020-12. A format is enforced, though draft 2020-12 takes it for an
    annotation unless told otherwise: `asserts_formats` False is its default. Raises SchemaUnsupported, naming the
    keyword and its JSON pointer, for what can not be enforced, for faults, and for a schema that no value satisfies.
    """
    document = Document(schema, draft, asserts_formats)
    try:
        return _Converter(Merger(document, are_disjoint)).convert((document.root,))
    except GrammarTooLarge as large:
        raise SchemaUnsupported("$schema", "#", large.reason) from large
    except RecursionError as deep:
        raise SchemaUnsupported("$schema", "#", "its schemas refer to one another too deeply") from deep


class _Converter:
    def __init__(self, merger: Merger) -> None:
        self._merger = merger
        self._rules = Rules()
        self._root = self._rules.reserve("root")
        self._strings = Strings(self._rules)
        self._nodes: dict[frozenset[Place], Ref] = {}
        self._shapes: dict[Shape, Ref] = {}
        self._waiting: list[tuple[Ref, Node]] = []

    def convert(self, root: Node) -> str:
        self._rules.define(self._root, (self._value(root),))
        while self._waiting:
            ref, node = self._waiting.pop()
            self._rules.define(ref, *self._alternatives(node))
        gbnf = self._rules.render(self._root)
        if not gbnf:
            raise SchemaUnsupported(_constraints(root), "#", "no value satisfies the schema")
        return gbnf

    def _value(self, node: Node) -> Ref:
        """The rule of a node, written later: a schema may contain itself."""
        known = frozenset(place for place in node if place.schema is not True)
        if known not in self._nodes:
            self._nodes[known] = self._rules.reserve(_stem(node))
            self._waiting.append((self._nodes[known], node))
        return self._nodes[known]

    def _alternatives(self, node: Node) -> list[Alternative]:
        found = _simplified(shapes(self._merger, node))
        values = [value for shape in found if isinstance(shape, Values) for value in shape.values]
        options: list[Alternative] = []
        if values:
            options.append((self._strings.one_of([written(value) for value in values], f"{_stem(node)}-value"),))
        pointer = node[0].pointer if node else "#"
        options += [(self._shape(shape, _stem(node), pointer),) for shape in found if not isinstance(shape, Values)]
        return options

    def _shape(self, shape: Shape, stem: str, pointer: str) -> Ref:
        # Whom to blame does not matter any more: equal numbers and strings share their rules.
        known = replace(shape, place=None) if isinstance(shape, Number | Text) else shape
        if known not in self._shapes:
            self._shapes[known] = self._written(shape, stem, pointer)
        return self._shapes[known]

    def _written(self, shape: Shape, stem: str, pointer: str) -> Ref:
        match shape:
            case Text():
                return self._strings.text(shape.language, shape.place)
            case Number():
                gbnf = common(shape)
                if gbnf:
                    return self._rules.add("integer" if shape.is_integer else "number", (gbnf,))
                return self._strings.number(language(shape), shape.place)
            case Array():
                return write_array(self._rules, shape, self._value, f"{stem}-array", pointer)
            case Object():
                return write_object(self._rules, self._strings, shape, self._value, f"{stem}-object")
        raise AssertionError(f"{shape!r} is written with the other values")


def _simplified(found: list[Shape]) -> list[Shape]:
    """Without strings and numbers where all strings or all numbers are among the shapes anyway."""
    kept = list(found)
    for shape in found:
        if not any(shape is other for other in kept):
            continue
        if isinstance(shape, Text) and shape.language == Language():
            kept = [other for other in kept if other is shape or not isinstance(other, Text)]
        if isinstance(shape, Number) and replace(shape, place=None) == _ALL_NUMBERS:
            kept = [other for other in kept if other is shape or not isinstance(other, Number)]
    return kept


def _constraints(root: Node) -> str:
    """What may have left nothing: the names of the keywords at the root."""
    schema = root[0].schema
    return "false" if isinstance(schema, bool) else ", ".join(n for n in schema if n not in ANNOTATIONS) or "$schema"


def _stem(node: Node) -> str:
    """A name for the rules of a node: the last name in its pointer that a rule may have."""
    token = node[0].pointer.rpartition("/")[2] if node else "value"
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in token).strip("-").lower()
    return kept[:24].strip("-") or "value"
