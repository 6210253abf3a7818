"""The number grammar has the numbers of JSON, without the infinite ones."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import is_sentence, spell, walked


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("number"))


@settings(max_examples=100, deadline=None)
@given(number=st.integers(-(10**30), 10**30) | st.floats(-1e90, 1e90).filter(lambda n: n == 0 or abs(n) > 1e-90))
def test_every_number_that_python_writes_is_a_sentence(
    grammar: CompiledGrammar, pieces: dict[int, bytes], number: float
) -> None:
    assert is_sentence(grammar.matcher(), spell(pieces, json.dumps(number).encode()))


@pytest.mark.parametrize(
    "text", ["", "-", "+1", "01", ".5", "1.", "1e", "0x1", "1e100", "NaN", "-Infinity", " 1", "1,5", "\u0661"]
)
def test_what_json_does_not_write_is_refused(grammar: CompiledGrammar, pieces: dict[int, bytes], text: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, text.encode()))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), prefix=st.sampled_from(["", "-", "0", "1.", "9e"]))
def test_a_random_walk_ends_in_a_finite_number(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: dict[int, bytes], seed: int, prefix: str
) -> None:
    assert math.isfinite(json.loads(walked(grammar, vocabulary, pieces, seed, prefix)))
