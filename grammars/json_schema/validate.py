"""What a finished text still lacks to be an instance: the check by a full validator, after generation.

The grammar promises no less for a text that has ended; this one speaks for texts that were cut off. It fetches nothing,
and patterns run on our automata: Python's `re` may take for ever on a hostile one. Called by the server.
"""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from grammars.automaton import Language
from grammars.errors import SchemaUnsupported
from grammars.json_schema import formats
from grammars.json_schema.document import Document, Draft
from grammars.json_schema.values import exact
from grammars.regex import parse

MAX_PROBLEMS: Final = 10

_Schema: TypeAlias = Mapping[str, Any]
_Problems: TypeAlias = Iterator[ValidationError]


def validate(text: str, schema: object, draft: Draft | None = None) -> list[str]:
    """Problems, at most ten, each with the JSON pointer of the faulty part; none for an instance.

    A text that breaks off is said to be incomplete, with the place. Raises SchemaUnsupported as `to_gbnf` does for a
    document that can not be read.
    """
    document = Document(schema, draft)
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        return ["the value is nested too deeply to be read"]
    except json.JSONDecodeError as fault:
        kind = "incomplete" if fault.pos >= len(text.rstrip()) or "Unterminated" in fault.msg else "no JSON"
        return [f"the value is {kind}: {fault.msg} at character {fault.pos}"]
    except ValueError as fault:
        return [f"the value is no JSON: {fault}"]
    validator = (_DRAFT_7 if document.is_draft_7 else _DRAFT_2020_12)(
        schema, registry=_NOTHING_ELSE, format_checker=_FORMATS
    )
    try:
        return [_problem(error) for error in islice(validator.iter_errors(value), MAX_PROBLEMS)]
    except Unresolvable as fault:
        raise SchemaUnsupported("$ref", "#", f"{fault.ref!r:.80} is not inside this document") from fault
    except RecursionError:
        return ["the value is nested too deeply to be checked"]


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.40} is too large")
    return number


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _problem(error: ValidationError) -> str:
    path = "".join(f"/{token}" for token in error.absolute_path)
    return f"{path or '#'}: {error.message[:200]}"


def _multiple_of(_validator: Any, step: float, value: object, _schema: _Schema) -> _Problems:
    """In decimal, as the grammar has it: 19.99 is a multiple of 0.01."""
    if isinstance(value, int | float) and not isinstance(value, bool) and exact(value) % exact(step):
        yield ValidationError(f"{value!r} is not a multiple of {step!r}")


def _pattern(_validator: Any, pattern: str, value: object, _schema: _Schema) -> _Problems:
    if isinstance(value, str) and not _matches(pattern, value):
        yield ValidationError(f"{value!r:.80} does not match {pattern!r:.80}")


def _pattern_properties(validator: Any, patterns: Mapping[str, _Schema], value: object, _schema: _Schema) -> _Problems:
    for name, inner in value.items() if isinstance(value, dict) else ():
        for pattern, schema in patterns.items():
            if _matches(pattern, name):
                yield from validator.descend(inner, schema, path=name, schema_path=pattern)


def _additional(validator: Any, additional: _Schema, value: object, schema: _Schema) -> _Problems:
    """`unevaluatedProperties` as well: `to_gbnf` takes it only where the two mean the same."""
    patterns, known = schema.get("patternProperties", {}), schema.get("properties", {})
    for name, inner in value.items() if isinstance(value, dict) else ():
        if name not in known and not any(_matches(pattern, name) for pattern in patterns):
            yield from validator.descend(inner, additional, path=name)


def _matches(pattern: str, text: str) -> bool:
    """As ECMA-262 has it, in time linear in the text."""
    return Language(somewhere=(parse(pattern),)).accepts(text)


def _format_checker() -> FormatChecker:
    checker = FormatChecker(formats=())
    for name in formats.NAMES:
        checker.checks(name)(lambda value, name=name: not isinstance(value, str) or formats.accepts(name, value))
    return checker


_OWN: Final = {
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "unevaluatedProperties": _additional,
}
_DRAFT_7: Final = extend(Draft7Validator, _OWN)  # type: ignore[no-untyped-call]
_DRAFT_2020_12: Final = extend(Draft202012Validator, _OWN)  # type: ignore[no-untyped-call]
_FORMATS: Final = _format_checker()
_NOTHING_ELSE: Final[Registry[object]] = Registry()  # the default one fetches what a reference names
