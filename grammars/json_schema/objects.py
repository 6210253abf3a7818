"""Objects as GBNF: `{"a": 1, "b": 2}`, fields in the schema's order, further properties after them.

A state is (next field, properties written so far), the second counted only as far as a comma or a bound needs it, so
the rules grow with the number of fields and not with that of their subsets. Called by `convert`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from grammars.errors import SchemaUnsupported
from grammars.json_schema.document import Node
from grammars.json_schema.fields import Object
from grammars.json_schema.strings import Strings
from grammars.rules import Alternative, Item, Ref, Rules
from grammars.spelling import literal

MAX_COUNTED: Final = 500
_CLOSE: Final = literal("}")
_COMMA: Final = literal(", ")


def write_object(rules: Rules, strings: Strings, shape: Object, value: Callable[[Node], Ref], stem: str) -> Ref:
    """The rule of an object. Raises SchemaUnsupported for a number of properties that can not be held."""
    _check_counts(shape)
    extras = [(strings.name(language, shape.taken, shape.place), value(node)) for language, node in shape.extras]
    fields = [(literal(json.dumps(f.name, ensure_ascii=False) + ": "), value(f.node)) for f in shape.fields]
    writer = _Writer(rules, shape, tuple(fields), tuple(extras), stem)
    return rules.add(stem, (literal("{"), writer.chain()))


def _check_counts(shape: Object) -> None:
    required = sum(field.is_required for field in shape.fields)
    pointer = shape.place.pointer if shape.place else "#"
    if shape.extras and shape.low > required + 1:
        # A grammar does not see that a name comes twice, and twice counts once.
        reason = f"{shape.low} of which {required} are required; names that are not listed can add one for certain"
        raise SchemaUnsupported("minProperties", pointer, reason)
    for name, bound in (("minProperties", shape.low), ("maxProperties", shape.high or 0)):
        if bound > MAX_COUNTED:
            raise SchemaUnsupported(name, pointer, f"{bound:,} properties; the limit is {MAX_COUNTED}")


@dataclass(slots=True)
class _Writer:
    rules: Rules
    shape: Object
    fields: tuple[tuple[str, Ref], ...]  # name with its colon, value
    extras: tuple[tuple[Ref, Ref], ...]
    stem: str

    def chain(self) -> Ref:
        """The rule of what follows the opening brace; states are written from the last field backwards."""
        counts = range(self._cap + 1)
        following = self._ends()
        for index in reversed(range(len(self.fields))):
            reached = min(index, self._cap)
            places = {count: self.rules.reserve(f"{self.stem}-rest") for count in counts if count <= reached}
            for count, ref in places.items():
                self.rules.define(ref, *self._options(index, count, following))
            following = places
        return following[0]

    @property
    def _cap(self) -> int:
        """Properties are counted up to here; one is what a comma needs to know."""
        return self.shape.high if self.shape.high is not None else max(self.shape.low, 1)

    def _next(self, count: int) -> int | None:
        """The count after another property; None where there may be none."""
        return None if count == self.shape.high else min(count + 1, self._cap)

    def _options(self, index: int, count: int, following: dict[int, Ref]) -> list[Alternative]:
        name, value = self.fields[index]
        options: list[Alternative] = []
        after = self._next(count)
        if after is not None:
            options.append((*_before(count), name, value, following[after]))
        if not self.shape.fields[index].is_required:
            options.append((following[count],))
        return options

    def _ends(self) -> dict[int, Ref]:
        """After the last field: properties beyond the fields, then the brace."""
        ends = {count: self.rules.reserve(f"{self.stem}-end") for count in range(self._cap + 1)}
        for count, ref in ends.items():
            options: list[Alternative] = [(_CLOSE,)] if count >= self.shape.low else []
            after = self._next(count)
            if after is not None:
                options += [(*_before(count), name, value, ends[after]) for name, value in self.extras]
            self.rules.define(ref, *options)
        return ends


def _before(count: int) -> tuple[Item, ...]:
    return (_COMMA,) if count else ()
