"""What a grammar lets through is UTF-8, though llama.cpp alone would take overlong forms and surrogates."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grammars.admission import admit
from grammars.byte_vocabulary import END_ID, byte_vocabulary
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.errors import GrammarInvalid
from grammars.utf8 import barred_after, is_part_of_text
from grammars.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def byte_tokens() -> Iterator[Vocabulary]:
    with byte_vocabulary() as vocabulary:
        yield vocabulary


@pytest.fixture(scope="module")
def anything(byte_tokens: Vocabulary) -> CompiledGrammar:
    return GrammarCompiler(byte_tokens).compile("root ::= .*")


def accepted(grammar: CompiledGrammar, raw: bytes) -> bytes:
    """As many of the bytes as the grammar takes, each asked for in all three ways."""
    matcher = grammar.matcher()
    taken = b""
    for byte in raw:
        allowed = matcher.allows(byte)
        assert matcher.allows_each(np.array([byte, END_ID]))[0] == allowed
        assert grammar_mask(grammar, taken)[byte] == allowed
        if not allowed:
            break
        matcher.accept(byte)
        taken += bytes([byte])
    matcher.close()
    return taken


def grammar_mask(grammar: CompiledGrammar, taken: bytes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    matcher = grammar.matcher()
    for byte in taken:
        matcher.accept(byte)
    mask = matcher.mask()
    matcher.close()
    return mask


BROKEN = {
    "an overlong slash": (b"\xc0\xaf", 0),
    "an overlong letter": (b"\xc1\x81", 0),
    "an overlong form of three bytes": (b"\xe0\x80\xaf", 1),
    "an overlong form of four bytes": (b"\xf0\x8f\xbf\xbf", 1),
    "a surrogate": (b"\xed\xa0\x80", 1),
    "beyond Unicode": (b"\xf4\x90\x80\x80", 1),
    "far beyond Unicode": (b"\xf5\x80\x80\x80", 0),
    "a byte of no form": (b"\xff", 0),
    "a continuation alone": (b"\x80", 0),
}


@pytest.mark.parametrize(("raw", "num_taken"), BROKEN.values(), ids=BROKEN)
def test_bytes_that_are_no_text_are_refused_at_the_first_that_can_not_be(
    anything: CompiledGrammar, raw: bytes, num_taken: int
) -> None:
    assert accepted(anything, raw) == raw[:num_taken]


@given(
    st.binary(max_size=6)
    | st.lists(st.sampled_from(b"\xe0\xed\xf0\xf4\x80\x8f\x90\x9f\xa0\xbf"), max_size=6).map(bytes)
)
def test_whatever_bytes_are_taken_begin_some_text(anything: CompiledGrammar, raw: bytes) -> None:
    assert is_part_of_text(accepted(anything, raw))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4))
def test_every_text_is_taken(anything: CompiledGrammar, text: str) -> None:
    assert accepted(anything, text.encode()) == text.encode()


@given(st.binary(min_size=1, max_size=5))
def test_a_part_of_text_is_one_that_some_bytes_around_it_make_text(raw: bytes) -> None:
    continuations = (b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xa0\x80", b"\x90\x80\x80")
    leads = (b"", b"\xc3", b"\xe1", b"\xe1\x80", b"\xf1", b"\xf1\x80", b"\xf1\x80\x80")
    assert is_part_of_text(raw) == any(is_text(lead + raw + end) for lead in leads for end in continuations)


def is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_what_is_barred_after_a_token_is_what_would_make_no_text() -> None:
    pieces = dict(enumerate([b"a\xe0", b"\xed", b"\xe1", b"\x80", b"\x9f ", b"\xa0", b"z", b"\xe2\x82"]))
    barred = {token: found.tolist() for token, found in barred_after(pieces).items()}
    assert barred == {0: [3, 4], 1: [5]}


def test_a_length_counts_characters_that_are_text(byte_tokens: Vocabulary) -> None:
    grammar = GrammarCompiler(byte_tokens).compile('root ::= "\\"" [^"]{0,2} "\\""')
    assert accepted(grammar, b'"\xe0\xa0\x80\xed\x9f\xbf"') == b'"\xe0\xa0\x80\xed\x9f\xbf"'
    assert accepted(grammar, b'"\xe0\x80\xa2"') == b'"\xe0'


def test_a_class_that_only_surrogates_open_is_refused_since_its_first_byte_would_lead_nowhere() -> None:
    with pytest.raises(GrammarInvalid, match="begins among the surrogates"):
        admit("root ::= [a\\uD800-\\uE000]")
    admit("root ::= [\\uD000-\\uE000] [^\\uD7FF]")
