"""A mask made of few questions is what llama.cpp says of every token, one by one."""

from collections.abc import Iterator
from itertools import pairwise
from random import Random
from time import thread_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.matcher import Matcher
from grammars.native import NativeVocab, Sampler
from grammars.token_table import ANY_LENGTH, KINDS, LETTERS, PROSE, Ranges, TokenTable
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import feed, shared, spell

Pieces = dict[int, bytes]
HARD = (
    "root ::= [^é]*",
    "root ::= [^x日]* | [é🙂]",
    "root ::= .{0,3} [a-zà-ú]*",
    'root ::= ([^"\\\\] | "\\\\" .){0,20} "\\""',
    'root ::= "a"? [A-Za-z]{2,5} ("b" | [^\\x00-\\x1F])*',
    'root ::= [a-mn-z]{3} | "ab" root',
    'root ::= [a-z]* <think> "x"* [^<]*',
    'root ::= "São" " "? [^a-z]* | "日" .',
)
GRAMMARS = (*HARD, *(library.text(name) for name in library.names()))


def asked_of_all(matcher: Matcher, vocabulary: Vocabulary) -> NDArray[np.bool_]:
    mask = np.zeros(vocabulary.num_logits, np.bool_)
    mask[vocabulary.text_ids] = matcher._sampler.allows_each(vocabulary.text_ids)
    mask[matcher._barred if matcher._barred is not None else []] = False
    for token_id in np.flatnonzero(~vocabulary.is_text).tolist():
        mask[token_id] = matcher.allows(token_id)
    return mask


def check_along_a_walk(
    compiler: GrammarCompiler, vocabulary: Vocabulary, gbnf: str, random: Random, steps: int
) -> None:
    matcher = compiler.compile(gbnf).matcher()
    for _ in range(steps):
        expected = asked_of_all(matcher, vocabulary)
        assert (matcher.mask() == expected).all(), np.flatnonzero(matcher.mask() != expected)[:9]
        allowed = [i for i in np.flatnonzero(expected).tolist() if i not in vocabulary.eos_ids]
        if not allowed:
            break
        matcher.accept(random.choice(allowed))
    matcher.close()


@settings(max_examples=60, deadline=None)
@given(gbnf=st.sampled_from(GRAMMARS), seed=st.integers(0, 2**32))
def test_a_mask_is_what_llama_cpp_says_of_every_token(vocabulary: Vocabulary, gbnf: str, seed: int) -> None:
    check_along_a_walk(GrammarCompiler(vocabulary), vocabulary, gbnf, Random(seed), 12)


@pytest.fixture(scope="module")
def qwen() -> Iterator[Vocabulary]:
    native = NativeVocab(shared("qwen-vocab/qwen3-vocab-patched.gguf"))
    vocabulary = Vocabulary(native, native.num_tokens, (native.end_id,), frozenset())
    yield vocabulary
    vocabulary.close()


@pytest.mark.parametrize("gbnf", [*HARD[:6], library.text("json"), library.text("sql")])
def test_a_large_vocabulary_has_the_same_masks(qwen: Vocabulary, gbnf: str) -> None:
    check_along_a_walk(GrammarCompiler(qwen), qwen, gbnf, Random(1), 6)


def test_few_tokens_of_a_large_vocabulary_are_asked_about(qwen: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = Sampler.allows_each

    def watched(sampler: Sampler, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        asked.append(len(token_ids))
        return real(sampler, token_ids)

    monkeypatch.setattr(Sampler, "allows_each", watched)
    matcher = GrammarCompiler(qwen).compile(library.text("json")).matcher()
    pieces = qwen.native.text_pieces()
    for token_id in spell(pieces, b'{"name'):
        asked.clear()
        matcher.mask()
        assert sum(asked) < len(pieces) // 15
        matcher.accept(token_id)
    matcher.close()


@pytest.mark.parametrize(
    ("gbnf", "text", "kind", "expected"),
    [
        ("root ::= [a-zA-Z]{3}", b"", LETTERS, 3),
        ("root ::= [a-zA-Z]{3}", b"x", LETTERS, 2),
        ("root ::= [a-zA-Z]{3}", b"", PROSE, 0),
        ('root ::= [^"]*', b"", PROSE, ANY_LENGTH),
        ('root ::= "\\"" [^"]* "\\""', b"", PROSE, 0),
        ('root ::= "\\"" [^"]* "\\""', b'"', PROSE, ANY_LENGTH),
        ('root ::= "ab" | [a-zA-Z] [a-zA-Z0-9_]*', b"", LETTERS, ANY_LENGTH),
        ("root ::= [a-yA-Z]+", b"", LETTERS, 0),
        ("root ::= [^z]+", b"", LETTERS, 0),
        ("root ::= .", b"", PROSE, 1),
        ('root ::= "a" [a-zA-Z]', b"", LETTERS, 0),
    ],
)
def test_a_run_is_as_long_as_the_grammar_has_room_for_it(
    compiler: GrammarCompiler, pieces: Pieces, gbnf: str, text: bytes, kind: Ranges, expected: int
) -> None:
    matcher = compiler.compile(gbnf).matcher()
    assert feed(matcher, spell(pieces, text, longest=1))
    reader = matcher._sampler.reader
    assert reader is not None
    assert reader.rules().run(reader.stacks(), kind) == expected


@pytest.mark.parametrize(
    "gbnf",
    [
        "root ::= (" + " | ".join(f'[a-z]{{{n}}} "{n}" root' for n in range(1, 200)) + " | [a-z]*)",
        "root ::= " + " ".join(["[a-z]?"] * 300),
        "\n".join([f"r{n} ::= [a-z] r{n + 1} | r{n + 1} [a-z] | r{n + 1}" for n in range(7)] + ["r7 ::= [a-z]"])
        + "\nroot ::= r0 root | .",
    ],
)
def test_a_grammar_of_many_ways_is_read_in_bounded_time(
    compiler: GrammarCompiler, vocabulary: Vocabulary, gbnf: str
) -> None:
    matcher = compiler.compile(gbnf).matcher()
    reader = matcher._sampler.reader
    assert reader is not None
    rules, stacks = reader.rules(), reader.stacks()
    started = thread_time()
    assert [rules.run(stacks, kind) for kind in KINDS][-1] > 0
    assert thread_time() - started < 0.1
    assert (matcher.mask() == asked_of_all(matcher, vocabulary)).all()
    matcher.close()


def test_each_kind_holds_the_next() -> None:
    members = [{character for low, high in kind for character in range(low, high + 1)} for kind in KINDS]
    assert all(wide > narrow for wide, narrow in pairwise(members))


def test_a_token_is_not_asked_about_where_what_it_begins_with_is_refused() -> None:
    pieces = {0: b"a", 1: b"ab", 2: b"abc", 3: b"b", 4: b"\xc3", 5: b"\xc3\xa9", 6: "éa".encode(), 7: b"bc\xc3"}
    asked: list[list[int]] = []

    def ask(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        asked.append(ids.tolist())
        allowed: NDArray[np.bool_] = ids != 0
        return allowed

    table = TokenTable(pieces, 10)
    assert np.flatnonzero(table.mask(ask, lambda _: 0, True)).tolist() == [3, 4, 5, 6, 7]
    assert [sorted(ids) for ids in asked] == [[0, 3, 4], [5], [6, 7], [], []]
    asked.clear()
    assert np.flatnonzero(table.mask(ask, lambda _: 0, False)).tolist() == [3, 4, 7]
    asked.clear()
    assert np.flatnonzero(table.mask(ask, lambda kind: 2 * (kind == LETTERS), True)).tolist() == [
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        7,
    ]
    assert 0 not in {token_id for ids in asked for token_id in ids}
