"""The prefix tree of reserved words lets every other identifier through, and none of them."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grammars.compiler import GrammarCompiler
from grammars.words import MAX_TAIL, words_except
from tests.unit.grammars.walks import is_sentence, spell

WORD = st.from_regex(r"[a-e][a-e_0-2]{0,4}", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(reserved=st.frozensets(WORD, max_size=8), word=st.one_of(WORD, st.text("ab_1A ", max_size=4)))
@example(reserved=frozenset({"in", "int", "into"}), word="inti")
@example(reserved=frozenset(), word="a")
@example(reserved=frozenset({"a_b", "a"}), word="a_")
def test_a_word_is_allowed_exactly_if_it_is_an_identifier_and_not_reserved(
    compiler: GrammarCompiler, pieces: dict[int, bytes], reserved: frozenset[str], word: str
) -> None:
    compiled = compiler.compile("root ::= word\n" + words_except("word", reserved))
    for candidate in {word, *reserved}:
        expected = re.fullmatch("[a-z][a-z0-9_]*", candidate) is not None and candidate not in reserved
        assert is_sentence(compiled.matcher(), spell(pieces, candidate.encode())) is expected


@pytest.mark.parametrize("start", ["x", "sel", "select"])
def test_the_length_of_a_word_is_bounded(compiler: GrammarCompiler, pieces: dict[int, bytes], start: str) -> None:
    compiled = compiler.compile("root ::= word\n" + words_except("word", {"select"}))
    assert is_sentence(compiled.matcher(), spell(pieces, (start + "z" * MAX_TAIL).encode()))
    assert not is_sentence(compiled.matcher(), spell(pieces, (start + "z" * (MAX_TAIL + 2)).encode()))


def test_a_letter_class_is_written_in_ranges() -> None:
    assert "word ::= [a-mo-z] rest" in words_except("word", {"no"})
