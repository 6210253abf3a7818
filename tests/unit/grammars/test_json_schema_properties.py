"""Invariants over generated schemas, numbers and patterns; jsonschema, arithmetic and `re` are the judges."""

import json
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from grammars import regex
from grammars.compiler import GrammarCompiler
from grammars.errors import RegexUnsupported, SchemaUnsupported
from grammars.json_schema import to_gbnf, validate
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.instances import Speaker
from tests.unit.grammars.schema_strategies import schemas, values
from tests.unit.grammars.walks import walked

QUIET = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
)


@pytest.fixture(scope="module")
def speaker(compiler: GrammarCompiler, pieces: dict[int, bytes]) -> Speaker:
    return Speaker(compiler, pieces)


def converted(schema: object) -> str:
    """The grammar of a schema; examples whose schema is refused do not count."""
    try:
        return to_gbnf(schema)
    except SchemaUnsupported:
        assume(False)
        raise


@settings(QUIET, max_examples=120)
@given(schemas(), st.lists(values, min_size=4, max_size=8))
def test_a_value_can_be_written_exactly_when_it_is_an_instance(
    speaker: Speaker, schema: object, candidates: list[object]
) -> None:
    converted(schema)
    grammar = speaker.grammar(schema)
    for value in candidates:
        assert speaker.admits(grammar, value) == (validate(json.dumps(value), schema) == []), value


@settings(QUIET, max_examples=60)
@given(schemas(), st.integers(0, 2**32))
def test_every_text_of_the_grammar_is_an_instance(
    compiler: GrammarCompiler, vocabulary: Vocabulary, pieces: dict[int, bytes], schema: object, seed: int
) -> None:
    grammar = compiler.compile(converted(schema))
    try:
        text = walked(grammar, vocabulary, pieces, seed, closers=b'"b}].a ')
    except AssertionError as fault:
        assert "does not end" in str(fault), fault  # a pattern that none of the closers completes
        return
    json.loads(text)
    assert validate(text, schema) == []


@settings(QUIET, max_examples=30)
@given(schemas(), st.lists(values, min_size=1, max_size=20))
def test_a_schema_refused_for_having_no_value_has_none(schema: object, candidates: list[object]) -> None:
    try:
        to_gbnf(schema)
    except SchemaUnsupported as refusal:
        assume("no value satisfies" in refusal.reason)
        assert not any(Draft202012Validator(schema).is_valid(value) for value in candidates)  # type: ignore[arg-type]
    else:
        assume(False)


decimals = st.builds(
    lambda n, places: float(Decimal(n).scaleb(-places)), st.integers(-12_000, 12_000), st.integers(0, 3)
)


@settings(QUIET, max_examples=60)
@given(
    st.sampled_from(["integer", "number"]),
    st.dictionaries(
        st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
        decimals,
        min_size=1,
        max_size=2,
    ),
    st.none() | st.sampled_from([1, 2, 7, 10, 0.5, 0.01, 2.5]),
    st.lists(decimals, max_size=5),
)
def test_a_range_of_numbers_is_that_of_arithmetic(
    speaker: Speaker, kind: str, bounds: dict[str, float], step: float | None, others: list[float]
) -> None:
    schema = {"type": kind, **bounds} | ({"multipleOf": step} if step else {})
    converted(schema)
    grammar = speaker.grammar(schema)
    near = [bound + shift for bound in bounds.values() for shift in (0, 1, -1, 0.001, -0.001, 10, -10)]
    for number in (float(Decimal(repr(n)).quantize(Decimal("0.001"))) for n in [*near, *others, 0.0]):
        exact = Fraction(repr(number))
        expected = (
            (kind == "number" or exact.denominator == 1)
            and exact >= Fraction(repr(bounds.get("minimum", number)))
            and exact <= Fraction(repr(bounds.get("maximum", number)))
            and ("exclusiveMinimum" not in bounds or exact > Fraction(repr(bounds["exclusiveMinimum"])))
            and ("exclusiveMaximum" not in bounds or exact < Fraction(repr(bounds["exclusiveMaximum"])))
            and (step is None or exact % Fraction(repr(step)) == 0)
        )
        assert speaker.admits(grammar, number) == expected, number


atoms = st.sampled_from(
    ["a", "b", r"\d", r"\w", r"\s", "[ab]", "[^a]", ".", r"\.", "[a-c1]", r"\x61", '"', r"\\", "é", "-"]
)
quantifiers = st.sampled_from(["", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"])
patterns = st.recursive(
    st.builds(lambda atom, count: atom + count, atoms, quantifiers),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.builds(lambda left, right: f"(?:{left}|{right})", inner, inner),
        st.builds(lambda part, count: f"({part}){count}", inner, quantifiers),
        st.builds(lambda part: f"^{part}", inner),
        st.builds(lambda part: f"{part}$", inner),
    ),
    max_leaves=5,
)
lines = st.text('ab1_ .\\"é-\n', max_size=5)


def in_pythons(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace("$", r"\Z").replace(r"\w", "[0-9A-Za-z_]").replace(r"\d", "[0-9]"))


@settings(QUIET, max_examples=80)
@given(patterns, st.lists(lines, min_size=3, max_size=8))
def test_a_pattern_admits_what_pythons_finds(speaker: Speaker, pattern: str, candidates: list[str]) -> None:
    schema = {"type": "string", "pattern": pattern}
    converted(schema)
    grammar = speaker.grammar(schema)
    for text in candidates:
        assert speaker.admits(grammar, text) == bool(in_pythons(pattern).search(text)), text


@settings(QUIET, max_examples=80)
@given(patterns, st.lists(lines, min_size=3, max_size=8))
def test_an_expression_matches_the_whole_text(
    compiler: GrammarCompiler, speaker: Speaker, pattern: str, candidates: list[str]
) -> None:
    try:
        grammar = compiler.compile(regex.to_gbnf(pattern))
    except RegexUnsupported as refusal:
        assert re.search("no text|after an anchor", refusal.reason)
        return
    for text in candidates:
        assert speaker.reads(grammar, text) == bool(in_pythons(pattern).fullmatch(text)), text
