"""The same verdicts as llguidance, an implementation of its own, on schemas that both support."""

import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from grammars.compiler import GrammarCompiler
from grammars.errors import SchemaUnsupported
from grammars.json_schema import to_gbnf
from tests.unit.grammars.instances import Speaker, spellings
from tests.unit.grammars.schema_strategies import NAMES, PATTERNS, values


@pytest.fixture(scope="module")
def speaker(compiler: GrammarCompiler, pieces: dict[int, bytes]) -> Speaker:
    return Speaker(compiler, pieces)


class _Bytes:
    """A vocabulary of bytes for llguidance."""

    eos_token_id = 256
    bos_token_id = None
    unk_token_id = None
    tokens = (*(bytes([n]) for n in range(256)), b"<end>")
    special_token_ids = (256,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


@pytest.fixture(scope="module")
def guidance() -> LLTokenizer:
    return LLTokenizer(TokenizerWrapper(_Bytes()))


def guided(tokenizer: LLTokenizer, schema: object) -> str:
    """llguidance's grammar of the same white space; empty for what it does not support."""
    try:
        grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(schema), {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
        )
    except ValueError:
        return ""
    return "" if LLMatcher.validate_grammar(grammar, tokenizer) else grammar


def guidance_admits(tokenizer: LLTokenizer, grammar: str, value: object) -> bool:
    for text in dict.fromkeys(spellings(value)):
        matcher = LLMatcher(tokenizer, grammar)
        taken = matcher.try_consume_tokens(list(text.encode()))
        if taken == len(text.encode()) and matcher.is_accepting():
            return True
    return False


counts = st.integers(0, 3)
numbers = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional={"minimum": st.integers(-3, 5), "maximum": st.integers(5, 11), "multipleOf": st.sampled_from([1, 2, 3])},
)
strings = st.fixed_dictionaries(
    {"type": st.just("string")},
    optional={"minLength": counts, "maxLength": counts, "pattern": st.sampled_from(PATTERNS)},
)
leaves = st.one_of(
    numbers,
    strings,
    st.sampled_from([{"type": "null"}, {"type": "boolean"}, {"type": ["string", "null"]}, {"const": "ab"}, True]),
    st.builds(lambda listed: {"enum": listed}, st.lists(values, min_size=1, max_size=3)),
)


def _arrays(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    optional = {"items": inner, "prefixItems": st.lists(inner, max_size=2, min_size=1), "minItems": counts}
    return st.fixed_dictionaries({"type": st.just("array")}, optional=optional | {"maxItems": counts})


def _objects(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    names = st.sampled_from(NAMES)
    optional = {
        "properties": st.dictionaries(names, inner, max_size=3),
        "required": st.lists(names, max_size=2, unique=True),
        "additionalProperties": st.booleans() | inner,
    }
    return st.fixed_dictionaries({"type": st.just("object")}, optional=optional)


def _options(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3))


schemas = st.recursive(leaves, lambda inner: _arrays(inner) | _objects(inner) | _options(inner), max_leaves=5)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(schemas, st.lists(values, min_size=4, max_size=8))
def test_llguidance_gives_the_same_verdict(
    speaker: Speaker, guidance: LLTokenizer, schema: object, candidates: list[object]
) -> None:
    theirs = guided(guidance, schema)
    assume(theirs)
    try:
        to_gbnf(schema)
    except SchemaUnsupported:
        assume(False)
    ours = speaker.grammar(schema)
    for value in candidates:
        assert speaker.admits(ours, value) == guidance_admits(guidance, theirs, value), value
