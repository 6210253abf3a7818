"""What a request may ask for instead of a name comes to GBNF that says just that."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import growth, spec
from grammars.admission import admit
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarInvalid
from grammars.gbnf import MAX_BYTES, parse
from grammars.syntax import Literal
from tests.unit.grammars.walks import is_sentence, spell

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
ALIKE = st.text(st.sampled_from('ab"\\ \n]é'), min_size=1, max_size=6)


@given(TEXT)
def test_a_literal_is_read_back_as_the_text(text: str) -> None:
    assert parse(f"root ::= {spec.literal(text)}").rules["root"].alternatives == ((Literal(text),),)


@given(st.sets(ALIKE, min_size=1, max_size=20), st.lists(ALIKE, max_size=20))
@settings(deadline=None, max_examples=150)
def test_a_choice_is_these_texts_and_no_others(compiler: GrammarCompiler, texts: set[str], others: list[str]) -> None:
    source = spec.source(spec.OneOf(tuple(texts)))
    growth.check(admit(source.gbnf, source.root, source.max_bytes))
    compiled = compiler.compile(source.gbnf)
    pieces = compiler_pieces(compiler)
    for text in {*texts, *others, *(text[:-1] for text in texts if text[:-1])}:
        assert is_sentence(compiled.matcher(), spell(pieces, text.encode())) is (text in texts)


def compiler_pieces(compiler: GrammarCompiler) -> dict[int, bytes]:
    return compiler._vocabulary.native.text_pieces()


def test_a_choice_shares_what_its_texts_begin_with() -> None:
    assert spec.one_of(["no", "yes", "yesterday", "yes"]) == 'root ::= "no" | "yes" c0\nc0 ::=  | "terday"\n'


def test_the_longest_choice_is_admitted() -> None:
    words = [f'"{number:\\>30}' for number in range(1_000)]
    source = spec.source(spec.OneOf(tuple(words)))
    assert source.max_bytes == spec.MAX_MADE_BYTES > len(source.gbnf)
    growth.check(admit(source.gbnf, max_bytes=source.max_bytes))
    apart = [chr(0x4E00 + number) + "\x01" * 31 for number in range(1_000)]  # every character is escaped
    with pytest.raises(GrammarInvalid, match="the limit is 131,072"):
        admit(spec.one_of(apart), max_bytes=spec.MAX_MADE_BYTES)


@pytest.mark.parametrize("texts", [(), ("",), ("a", ""), tuple(str(n) for n in range(1_001)), ("a\0",), ("\ud800",)])
def test_a_choice_that_can_not_be_made_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(GrammarInvalid):
        spec.source(spec.OneOf(texts))


def test_gbnf_is_taken_as_it_is() -> None:
    assert spec.source(spec.Gbnf("x ::= [", "x")) == spec.Source("x ::= [", "x", MAX_BYTES)
