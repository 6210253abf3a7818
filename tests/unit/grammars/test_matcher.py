"""A matcher permits exactly what its grammar does, and nothing else ever reaches llama.cpp."""

import gc
import json
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarClosed, GrammarViolation
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.conftest import NUM_LOGITS, NativeCalls
from tests.unit.grammars.walks import feed, shared, spell, text_of

Pieces = dict[int, bytes]


def test_allows_agrees_with_the_mask_for_every_id_and_changes_nothing(
    compiler: GrammarCompiler, pieces: Pieces
) -> None:
    matcher = compiler.compile(library.text("json")).matcher()
    for token_id in [None, *spell(pieces, b'{"name": [1, "Ma')]:
        if token_id is not None:
            matcher.accept(token_id)
        mask = matcher.mask()
        assert [matcher.allows(i) for i in range(NUM_LOGITS)] == mask.tolist()
        assert (matcher.mask() == mask).all()


def test_a_forbidden_token_is_refused_before_llama_cpp_sees_it(
    compiler: GrammarCompiler, pieces: Pieces, native_calls: NativeCalls
) -> None:
    matcher = compiler.compile(library.text("labels")).matcher()
    first, *rest = spell(pieces, b"billing")
    forbidden = np.flatnonzero(~matcher.mask()).tolist()
    for token_id in [*forbidden, -1, NUM_LOGITS, 10**9, -(10**9)]:
        with pytest.raises(GrammarViolation, match=f"token {token_id} "):
            matcher.accept(token_id)
    assert native_calls["llama_sampler_accept"] == []
    assert feed(matcher, [first, *rest])  # and the refusals left the state as it was
    assert native_calls["llama_sampler_accept"] == [first, *rest]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_random_requests_to_accept_succeed_exactly_where_allowed(compiler: GrammarCompiler, seed: int) -> None:
    random = Random(seed)
    matcher = compiler.compile(library.text(random.choice(library.names()))).matcher()
    for _ in range(60):
        allowed = np.flatnonzero(matcher.mask()).tolist()
        token_id = random.choice([random.randrange(-2, NUM_LOGITS + 2), *random.sample(allowed, min(2, len(allowed)))])
        if token_id in allowed:
            matcher.accept(token_id)
        else:
            with pytest.raises(GrammarViolation):
                matcher.accept(token_id)
    matcher.close()


def test_special_and_unused_ids_are_never_allowed_even_where_any_text_is(
    compiler: GrammarCompiler, vocabulary: Vocabulary, eos_id: int
) -> None:
    matcher = compiler.compile("root ::= .*").matcher()
    beyond_text = {i for i in range(595, NUM_LOGITS) if matcher.allows(i)}
    assert beyond_text == {eos_id}
    assert set(np.flatnonzero(matcher.mask()).tolist()) - set(vocabulary.text_ids.tolist()) == {eos_id}


def test_a_special_token_can_not_be_had_by_the_grammar_naming_its_text(
    compiler: GrammarCompiler, pieces: Pieces, eos_id: int
) -> None:
    matcher = compiler.compile('root ::= "<think>" "<|im_end|>"').matcher()
    assert not matcher.mask()[595:].any()
    assert feed(matcher, spell(pieces, b"<think><|im_end|>"))  # as plain text it may be written
    assert np.flatnonzero(matcher.mask()).tolist() == [eos_id]


def test_the_end_of_sequence_is_allowed_only_where_a_sentence_ends(
    compiler: GrammarCompiler, pieces: Pieces, eos_id: int
) -> None:
    matcher = compiler.compile('root ::= "a" "bc"? "d"*').matcher()
    ends = []
    for token_id in [None, *spell(pieces, b"abcd", longest=1)]:
        if token_id is not None:
            matcher.accept(token_id)
        ends.append((matcher.allows(eos_id), matcher.is_complete, bool(matcher.mask()[eos_id])))
    assert ends == [(False,) * 3, (True,) * 3, (False,) * 3, (True,) * 3, (True,) * 3]


def test_every_end_of_sequence_id_ends(vocabulary: Vocabulary, pieces: Pieces) -> None:
    two_ends = Vocabulary(vocabulary.native, NUM_LOGITS, (595, 597), frozenset(range(595, 600)))
    for eos_id in (595, 597):
        matcher = GrammarCompiler(two_ends).compile('root ::= "a"').matcher()
        assert not matcher.allows(eos_id)
        assert feed(matcher, [*spell(pieces, b"a"), eos_id])
        assert matcher.is_finished
        matcher.close()


def test_nothing_follows_the_end(compiler: GrammarCompiler, eos_id: int) -> None:
    matcher = compiler.compile('root ::= "a"*').matcher()
    states = [(matcher.is_complete, matcher.must_stop, matcher.is_finished)]
    matcher.accept(eos_id)
    states.append((matcher.is_complete, matcher.must_stop, matcher.is_finished))
    assert states == [(True, False, False), (True, True, True)]
    assert not matcher.mask().any()
    with pytest.raises(GrammarViolation):
        matcher.accept(eos_id)


@pytest.mark.parametrize(
    ("text", "must_stop"), [(b"", False), (b"a", False), (b"ab", True), (b"ac", False), (b"acd", True)]
)
def test_one_must_stop_where_only_the_end_may_follow(
    compiler: GrammarCompiler, pieces: Pieces, text: bytes, must_stop: bool
) -> None:
    matcher = compiler.compile('root ::= "a" ("b" | "c" "d"?)?').matcher()
    assert feed(matcher, spell(pieces, text))
    assert matcher.must_stop is must_stop


def test_the_first_allowed_of_a_ranking_is_the_masked_best(compiler: GrammarCompiler, pieces: Pieces) -> None:
    matcher = compiler.compile(library.text("json")).matcher()
    random = Random(7)
    for token_id in spell(pieces, b'{"a": tru'):
        ranking = random.sample(range(NUM_LOGITS), NUM_LOGITS)
        mask = matcher.mask()
        assert matcher.first_allowed(ranking) == next(i for i in ranking if mask[i])
        matcher.accept(token_id)
    assert matcher.first_allowed([0, 595, NUM_LOGITS + 3]) is None
    assert matcher.first_allowed([]) is None


def test_two_matchers_of_one_grammar_are_independent(compiler: GrammarCompiler, pieces: Pieces) -> None:
    compiled = compiler.compile(library.text("labels"))
    one, other = compiled.matcher(), compiled.matcher()
    fresh = other.mask()
    assert feed(one, spell(pieces, b"billing"))
    assert (other.mask() == fresh).all()
    one.close()
    assert feed(other, spell(pieces, b"technical"))
    assert other.must_stop
    assert (compiled.matcher().mask() == fresh).all()


def test_a_matcher_outlives_its_grammar_and_the_compilers_cache(vocabulary: Vocabulary, pieces: Pieces) -> None:
    matcher = GrammarCompiler(vocabulary, cache_size=1).compile(library.text("labels")).matcher()
    gc.collect()
    assert feed(matcher, spell(pieces, b"returns"))
    assert matcher.must_stop


@pytest.mark.parametrize("text", ["é", "São Tomé", "日本語", "🙂", "a🙂日é"])
def test_characters_may_be_split_over_tokens(compiler: GrammarCompiler, pieces: Pieces, text: str) -> None:
    matcher = compiler.compile(library.text("json")).matcher()
    spelled = spell(pieces, f'"{text}"'.encode(), longest=1)
    assert len(spelled) == len(text.encode()) + 2
    for token_id in spelled:
        assert not matcher.is_complete
        matcher.accept(token_id)
    assert matcher.must_stop
    assert text_of(pieces, spelled) == f'"{text}"'


def test_a_split_character_must_be_finished_first(compiler: GrammarCompiler, pieces: Pieces) -> None:
    matcher = compiler.compile(library.text("json")).matcher()
    assert feed(matcher, spell(pieces, b'"\xe6\x97', longest=1))
    following = {pieces[i][0] for i in np.flatnonzero(matcher.mask()).tolist()}
    assert following == set(range(0x80, 0xC0))


def test_a_matcher_frees_its_memory_exactly_once(compiler: GrammarCompiler, native_calls: NativeCalls) -> None:
    matcher = compiler.compile(library.text("labels")).matcher()
    matcher.close()
    matcher.close()
    del matcher
    gc.collect()
    assert len(native_calls["llama_sampler_free"]) == 1


def test_a_forgotten_matcher_is_freed_with_the_object(compiler: GrammarCompiler, native_calls: NativeCalls) -> None:
    matcher = compiler.compile(library.text("labels")).matcher()
    del matcher
    gc.collect()
    assert len(native_calls["llama_sampler_free"]) == 1


def test_a_closed_matcher_is_refused_instead_of_crashing(compiler: GrammarCompiler, pieces: Pieces) -> None:
    matcher = compiler.compile(library.text("labels")).matcher()
    (token_id, *_) = spell(pieces, b"billing")
    matcher.close()
    for use in (lambda: matcher.allows(token_id), lambda: matcher.accept(token_id), matcher.mask):
        with pytest.raises(GrammarClosed):
            use()


@pytest.mark.parametrize("longest", [1, 64])
def test_llama_cpps_own_cases_are_accepted_and_rejected(
    compiler: GrammarCompiler, pieces: Pieces, longest: int
) -> None:
    cases = json.loads(shared("gbnf/grammar-integration-cases.json").read_text(encoding="utf-8"))["cases"]
    grammars = [case for case in cases if case["kind"] == "test_grammar"]
    assert len(grammars) == 12
    for case in grammars:
        compiled = compiler.compile(case["text"])
        for expected, texts in ((True, case["pass"]), (False, case["fail"])):
            for text in texts:
                matcher = compiled.matcher()
                accepted = feed(matcher, spell(pieces, text.encode(), longest)) and matcher.is_complete
                assert accepted is expected, (case["desc"], text)
                matcher.close()
