"""Arrays as GBNF: `[1, 2]`. Called by `convert`."""

from collections.abc import Callable
from typing import Final

from grammars.errors import SchemaUnsupported
from grammars.json_schema.document import Node
from grammars.json_schema.shapes import Array
from grammars.rules import Alternative, Item, Ref, Rules
from grammars.spelling import literal

MAX_ITEMS: Final = 2_000  # llama.cpp's limit of a repetition
_CLOSE: Final = literal("]")
_COMMA: Final = literal(", ")

Value = Callable[[Node], Ref]


def write_array(rules: Rules, shape: Array, value: Value, stem: str, pointer: str) -> Ref:
    """The rule of an array. Raises SchemaUnsupported for bounds that GBNF can not hold."""
    for name, bound in (("minItems", shape.low), ("maxItems", shape.high)):
        if bound is not None and bound > MAX_ITEMS:
            raise SchemaUnsupported(name, pointer, f"{bound:,} items; the limit is {MAX_ITEMS:,}")
    if shape.unique is not None:
        return rules.add(stem, (literal("["), _Set(rules, shape, shape.unique, stem).rule(frozenset(), 0)))
    return rules.add(stem, (literal("["), _from(rules, shape, value, stem)))


def _from(rules: Rules, shape: Array, value: Value, stem: str) -> Ref:
    """What follows the opening bracket: the items by index, then all the others."""
    places = [rules.reserve(f"{stem}-item") for _ in range(len(shape.prefix) + 1)]
    for index, node in enumerate(shape.prefix):
        options: list[Alternative] = [(_CLOSE,)] if index >= shape.low else []
        if shape.high is None or index < shape.high:
            options.append((*_before(index), value(node), places[index + 1]))
        rules.define(places[index], *options)
    rules.define(places[-1], *_rest(rules, shape, value(shape.rest), stem))
    return places[0]


def _before(index: int) -> tuple[Item, ...]:
    return (_COMMA,) if index else ()


def _rest(rules: Rules, shape: Array, item: Ref, stem: str) -> list[Alternative]:
    """Between the bounds that are left; where no item is possible, that leaves the closing bracket."""
    taken = len(shape.prefix)
    low = max(0, shape.low - taken)
    high = None if shape.high is None else max(0, shape.high - taken)
    options: list[Alternative] = [(_CLOSE,)] if low == 0 else []
    if high == 0:
        return options
    more = rules.add(f"{stem}-more", (_COMMA, item))
    if taken:
        return [*options, (Ref(more.name, max(low, 1), high), _CLOSE)]
    return [*options, (item, Ref(more.name, max(low, 1) - 1, None if high is None else high - 1), _CLOSE)]


class _Set:
    """Arrays without repetition: one rule for each set of values that have been taken."""

    def __init__(self, rules: Rules, shape: Array, values: tuple[str, ...], stem: str) -> None:
        self._rules, self._shape, self._values, self._stem = rules, shape, values, stem
        self._refs: dict[frozenset[str], Ref] = {}

    def rule(self, taken: frozenset[str], count: int) -> Ref:
        if taken not in self._refs:
            ref = self._refs[taken] = self._rules.reserve(f"{self._stem}-set")
            options: list[Alternative] = [(_CLOSE,)] if count >= self._shape.low else []
            if self._shape.high is None or count < self._shape.high:
                for value in self._values:
                    if value not in taken:
                        options.append((*_before(count), literal(value), self.rule(taken | {value}, count + 1)))
            self._rules.define(ref, *options)
        return self._refs[taken]
