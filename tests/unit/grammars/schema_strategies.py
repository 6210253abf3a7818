"""Hypothesis strategies: schemas of both kinds of luck, and values of the sizes that they speak of."""

from hypothesis import strategies as st

NAMES = ["a", "b", "ab", "é"]
PATTERNS = ["^a", "b$", "a", "^[ab]*$", "^(a|bc)+$", "^.$", "^$", "c|^b", "[^a]", "^a?b{1,2}$"]
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]

numbers = st.integers(-3, 12) | st.sampled_from([0.5, 1.5, 2.0, -0.5, 0.25, 10.75, 0.05, -3.0, 99.5])
texts = st.text("abcé", max_size=4)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True)


def schemas(depth: int = 2) -> st.SearchStrategy[object]:
    """Of every keyword that is supported anywhere; many are refused, which the tests count."""
    inner = schemas(depth - 1) if depth else st.booleans()
    by_name = st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=3)
    several = st.lists(inner, min_size=1, max_size=3)
    bound, count = st.sampled_from([0, 1, 2, 5, -2, 10, 0.5, -0.5, 9.75]), st.integers(0, 3)
    nested = {
        "properties": by_name,
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), inner, min_size=1, max_size=2),
        "additionalProperties": inner,
        "propertyNames": st.sampled_from([{"enum": ["a", "ab"]}, {"pattern": "^a"}, {"maxLength": 1}]),
        "dependentSchemas": st.dictionaries(st.sampled_from(NAMES), inner, max_size=1),
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
    }
    flat = {
        "type": st.sampled_from([*TYPES, ["string", "null"], ["object", "array"], ["integer", "string"]]),
        "enum": st.lists(values, min_size=1, max_size=3),
        "const": values,
        "minimum": bound,
        "maximum": bound,
        "exclusiveMinimum": bound,
        "exclusiveMaximum": bound,
        "multipleOf": st.sampled_from([1, 2, 3, 0.5, 0.25, 1.5, 2.0, 0.01]),
        "minLength": count,
        "maxLength": count,
        "pattern": st.sampled_from(PATTERNS),
        "minItems": count,
        "maxItems": count,
        "uniqueItems": st.booleans(),
        "contains": st.booleans(),
        "required": names,
        "minProperties": count,
        "maxProperties": count,
        "dependentRequired": st.dictionaries(st.sampled_from(NAMES), names, max_size=1),
    }
    keywords = nested | flat

    def chosen(some: list[str]) -> st.SearchStrategy[object]:
        return st.fixed_dictionaries({name: keywords[name] for name in some})

    return st.lists(st.sampled_from(sorted(keywords)), min_size=1, max_size=4, unique=True).flatmap(chosen)
