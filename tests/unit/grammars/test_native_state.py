"""What is read of llama.cpp's state agrees with what llama.cpp does."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.matcher import Matcher
from grammars.native import Sampler, _address
from grammars.native_state import StateReader
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.conftest import NUM_LOGITS
from tests.unit.grammars.walks import feed, spell

Pieces = dict[int, bytes]


def sampler(vocabulary: Vocabulary, gbnf: str) -> Sampler:
    return Sampler.parse(vocabulary.native, gbnf, "root")


def states_of(found: Sampler) -> StateReader:
    assert found.reader is not None, "this build of llama.cpp can not be read"
    return found.reader


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_equal_states_of_different_texts_allow_the_same(vocabulary: Vocabulary, seed: int) -> None:
    """Walks of several matchers of one grammar: wherever two keys are equal, so are the masks that llama.cpp makes."""
    random = Random(seed)
    start = sampler(vocabulary, library.text(random.choice(library.names())))
    seen: dict[object, bytes] = {}
    for _ in range(3):
        walker = start.clone()
        for _ in range(25):
            mask = walker.allows_each(np.arange(NUM_LOGITS))
            assert seen.setdefault(states_of(walker).key(), mask.tobytes()) == mask.tobytes()
            allowed = [i for i in np.flatnonzero(mask).tolist() if vocabulary.is_text[i]]
            if not allowed:
                break
            walker.accept(random.choice(allowed))
        walker.close()


def test_other_texts_may_lead_to_the_same_state(vocabulary: Vocabulary, pieces: Pieces) -> None:
    start = sampler(vocabulary, 'root ::= [0-9]+ ("." [0-9]+)?')
    keys = []
    for text in (b"1", b"123", b"1.5", b"77.25", b"1."):
        one = start.clone()
        for token_id in spell(pieces, text):
            one.accept(token_id)
        keys.append(states_of(one).key())
    assert keys[0] == keys[1] and keys[2] == keys[3]
    assert len(set(keys)) == 3


def test_half_a_character_is_a_state_of_its_own_and_no_end(compiler: GrammarCompiler, pieces: Pieces) -> None:
    matcher = compiler.compile("root ::= .*").matcher()
    first, second = spell(pieces, "é".encode(), longest=1)
    before = matcher.mask()
    ends, stops, alike = [matcher.is_complete], [matcher.must_stop], []
    for token_id in (first, second):
        matcher.accept(token_id)
        ends.append(matcher.is_complete)
        stops.append(matcher.must_stop)
        alike.append(bool((matcher.mask() == before).all()))
    assert ends == [True, False, True] and not any(stops) and alike == [False, True]


def test_another_text_root_or_vocabulary_is_not_believed(vocabulary: Vocabulary) -> None:
    one = sampler(vocabulary, 'root ::= "a"')
    address, vocab = _address(one._pointer), _address(vocabulary.native.pointer)
    text = b'root ::= "a"'
    assert StateReader.of(address, vocab, text, b"root") is not None
    assert StateReader.of(address, vocab, b'root ::= "b"', b"root") is None
    assert StateReader.of(address, vocab, text, b"toor") is None
    assert StateReader.of(address, vocab + 8, text, b"root") is None
    one.close()


@pytest.mark.parametrize("name", library.names())
def test_a_matcher_without_a_view_of_the_state_allows_the_same(
    vocabulary: Vocabulary, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a build of llama.cpp that is laid out in another way."""
    with monkeypatch.context() as patch:
        patch.setattr(StateReader, "of", classmethod(lambda *_: None))
        blind = GrammarCompiler(vocabulary).compile(library.text(name)).matcher()
    assert blind._sampler.reader is None
    seeing = GrammarCompiler(vocabulary).compile(library.text(name)).matcher()
    random = Random(3)
    for _ in range(40):
        mask = blind.mask()
        assert (seeing.mask() == mask).all() and blind.must_stop == seeing.must_stop
        allowed = [i for i in np.flatnonzero(mask).tolist() if vocabulary.is_text[i]]
        if not allowed:
            break
        drawn = random.choice(allowed)
        blind.accept(drawn)
        seeing.accept(drawn)


def test_matchers_of_one_grammar_share_masks_and_other_grammars_do_not(vocabulary: Vocabulary, pieces: Pieces) -> None:
    compiler = GrammarCompiler(vocabulary)
    digits, letters = compiler.compile("root ::= [0-9]+"), compiler.compile("root ::= [a-z]+")

    def after(matcher: Matcher, text: bytes) -> Matcher:
        assert feed(matcher, spell(pieces, text))
        return matcher

    first = after(digits.matcher(), b"1")
    assert first.hot_mask() is None
    mask = first.mask()
    again = after(digits.matcher(), b"12345").hot_mask()
    assert again is not None and (again == mask).all()
    assert after(letters.matcher(), b"a").hot_mask() is None
    assert after(digits.matcher(), b"1").hot_mask() is not None


def test_no_mask_is_remembered_beyond_its_bytes(vocabulary: Vocabulary) -> None:
    compiled = GrammarCompiler(vocabulary, mask_cache_bytes=10).compile("root ::= [0-9]+")
    compiled.matcher().mask()
    assert compiled.matcher().hot_mask() is None
