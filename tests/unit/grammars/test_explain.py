"""Where a text leaves its grammar, and what could stand there; read by bytes, so for any tokenizer."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.byte_vocabulary import END_ID, byte_vocabulary
from grammars.compiler import GrammarCompiler
from grammars.explain import MAX_RUN, MAX_RUNS, explain
from grammars.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def by_bytes() -> Iterator[Vocabulary]:
    with byte_vocabulary() as vocabulary:
        yield vocabulary


@pytest.fixture(scope="module")
def compiler(by_bytes: Vocabulary) -> GrammarCompiler:
    return GrammarCompiler(by_bytes)


def test_every_token_is_the_byte_of_its_number(by_bytes: Vocabulary) -> None:
    assert by_bytes.native.text_pieces() == {byte: bytes([byte]) for byte in range(256)}
    assert by_bytes.num_logits == 257 and by_bytes.eos_ids == frozenset({END_ID})


def test_a_sentence_is_accepted_to_its_end(compiler: GrammarCompiler) -> None:
    found = explain(compiler.compile('root ::= "yes" "!"?'), "yes")
    assert (found.is_sentence, found.may_end, found.accepted, found.refused) == (True, True, "yes", "")
    assert found.next == ("!",)


def test_a_beginning_is_no_sentence_and_tells_how_it_could_go_on(compiler: GrammarCompiler) -> None:
    found = explain(compiler.compile('root ::= "a" ("bcd" | "xy" [0-9])'), "a")
    assert (found.is_sentence, found.may_end, found.refused, found.next) == (False, False, "", ("bcd", "xy"))


def test_a_fault_has_its_line_and_column_in_characters(compiler: GrammarCompiler) -> None:
    found = explain(compiler.compile(r'root ::= [^x]* "x"'), "é日\n🙂xy")
    assert (found.accepted, found.refused, found.line, found.column) == ("é日\n🙂x", "y", 2, 3)
    assert found.may_end and found.next == ()


def test_a_character_is_refused_as_a_whole(compiler: GrammarCompiler) -> None:
    found = explain(
        compiler.compile("root ::= [é-ë]+"), "éî"
    )  # the second shares its first byte with what may stand there
    assert (found.accepted, found.refused, found.column) == ("é", "î", 2)
    assert found.next_beyond_ascii and found.may_end


def test_of_many_ways_on_only_the_letters_are_told(compiler: GrammarCompiler) -> None:
    found = explain(compiler.compile('root ::= [a-z] "more"'), "")
    assert len(found.next) == 26 > MAX_RUNS and set(map(len, found.next)) == {1}


def test_what_has_to_follow_is_told_up_to_a_length(compiler: GrammarCompiler) -> None:
    assert explain(compiler.compile(f'root ::= "{"m" * 99}"'), "").next == ("m" * MAX_RUN,)


def test_a_lone_surrogate_is_refused_like_any_other_text(compiler: GrammarCompiler) -> None:
    found = explain(compiler.compile('root ::= "a"+'), "a\udc80")
    assert (found.accepted, found.refused) == ("a", "\udc80")


@settings(max_examples=60, deadline=None)
@given(text=st.text('{}[]",:1a \n', max_size=12))
def test_the_accepted_part_and_the_rest_are_the_text(compiler: GrammarCompiler, text: str) -> None:
    compiled = compiler.compile(library.text("json"))
    found = explain(compiled, text)
    assert found.accepted + found.refused == text
    for option in found.next[:3]:
        assert explain(compiled, found.accepted + option).refused == ""
