"""Every keyword's name: what constrains, what only annotates, and what is refused with which words.

Called by `document` for each schema that is reached; a name that is in no list is refused, since a misspelt
keyword would otherwise be dropped in silence.
"""

from collections.abc import Mapping
from typing import Final

from grammars.errors import SchemaUnsupported

ANNOTATIONS: Final = frozenset(
    """
    $schema $id $anchor $comment $defs definitions title description default examples example deprecated readOnly
    writeOnly contentEncoding contentMediaType contentSchema $dynamicAnchor discriminator xml externalDocs
    """.split()
)
SUPPORTED: Final = frozenset(
    """
    type enum const $ref allOf anyOf oneOf not if then else
    minimum maximum exclusiveMinimum exclusiveMaximum multipleOf
    minLength maxLength pattern format
    items prefixItems additionalItems minItems maxItems uniqueItems contains minContains maxContains unevaluatedItems
    properties required additionalProperties patternProperties propertyNames minProperties maxProperties
    dependentRequired dependentSchemas dependencies unevaluatedProperties
    """.split()
)
REFUSED: Final = {
    "$dynamicRef": "a reference that depends on who refers is not supported",
    "$recursiveRef": "a reference that depends on who refers is not supported",
    "$recursiveAnchor": "a reference that depends on who refers is not supported",
    "$vocabulary": "a metaschema is not a schema of values",
}
# What a draft does not know it ignores; so do not take it for a constraint, and do not drop it either.
NOT_IN_DRAFT_7: Final = frozenset(
    """
    prefixItems dependentRequired dependentSchemas unevaluatedItems unevaluatedProperties minContains maxContains
    $anchor
    """.split()
)
SINGLE: Final = frozenset(
    """
    additionalProperties additionalItems items not if then else contains propertyNames unevaluatedItems
    unevaluatedProperties contentSchema
    """.split()
)
LISTS: Final = frozenset("allOf anyOf oneOf prefixItems items".split())
MAPS: Final = frozenset("properties patternProperties $defs definitions dependentSchemas dependencies".split())

# Assertions there, where a reader may check them; annotations in 2020-12.
ASSERTED_IN_DRAFT_7: Final = frozenset({"contentEncoding", "contentMediaType"})

_COUNTS: Final = frozenset(
    "minLength maxLength minItems maxItems minContains maxContains minProperties maxProperties".split()
)
_NUMBERS: Final = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum multipleOf".split())
_OBJECTS: Final = frozenset("properties patternProperties dependentRequired dependentSchemas dependencies".split())


_TYPES: Final = frozenset("null boolean integer number string array object".split())


def check(schema: Mapping[str, object], pointer: str, is_draft_7: bool) -> None:
    """Raises SchemaUnsupported for a name that is unknown or refused and for a value of the wrong kind."""
    for name, value in schema.items():
        if name in REFUSED:
            raise SchemaUnsupported(name, pointer, REFUSED[name])
        if is_draft_7 and name in NOT_IN_DRAFT_7:
            raise SchemaUnsupported(name, pointer, "draft 7 does not know it; name draft 2020-12 in $schema")
        if not is_draft_7 and (name == "additionalItems" or (name == "items" and isinstance(value, list))):
            reason = "draft 2020-12 says prefixItems and items for it; or name draft 7 in $schema"
            raise SchemaUnsupported(name, pointer, reason)
        if is_draft_7 and name in ASSERTED_IN_DRAFT_7:
            raise SchemaUnsupported(name, pointer, "what a string encodes can not be enforced")
        if name not in ANNOTATIONS and name not in SUPPORTED and not name.startswith("x-"):
            raise SchemaUnsupported(name, pointer, "no such keyword is known")
        fault = _fault(name, value)
        if fault:
            raise SchemaUnsupported(name, pointer, f"its value has to be {fault}")


def _fault(name: str, value: object) -> str:
    if name == "type" and not _is_type(value):
        return f"one of the types of JSON, or a list of them: {', '.join(sorted(_TYPES))}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if name in _COUNTS and not (is_number and value >= 0 and value == int(value)):  # type: ignore[operator, call-overload]
        return "a whole number, zero or more"
    if name in _NUMBERS and not is_number:
        return "a number"
    if name == "multipleOf" and value <= 0:  # type: ignore[operator]
        return "greater than zero"
    if name in _OBJECTS and not isinstance(value, dict):
        return "an object"
    if name in ("allOf", "anyOf", "oneOf", "prefixItems") and not (isinstance(value, list) and value):
        return "a list of schemas, at least one"
    if name in ("enum", "required") and not isinstance(value, list):
        return "a list"
    if name in ("pattern", "format", "$ref") and not isinstance(value, str):
        return "a string"
    if name == "required" and not all(isinstance(item, str) for item in value):  # type: ignore[attr-defined]
        return "a list of names"
    return ""


def _is_type(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in _TYPES for name in names)
