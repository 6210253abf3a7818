"""A grammar may name special tokens: they pass where it does, and nowhere by their text."""

from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarInvalid, GrammarViolation
from grammars.native_state import StateReader
from grammars.vocabulary import Vocabulary, vocabulary_for
from tests.unit.grammars.conftest import NUM_LOGITS
from tests.unit.grammars.walks import feed, spell

Pieces = dict[int, bytes]


@pytest.fixture(scope="module")
def think(tokenizer: PreTrainedTokenizerFast) -> int:
    return tokenizer.get_vocab()["<think>"]


def specials(matcher_mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    return [595 + int(i) for i in np.flatnonzero(matcher_mask[595:])]


@pytest.mark.parametrize("by_id", [False, True])
def test_a_named_token_passes_where_it_is_named_and_nowhere_else(
    compiler: GrammarCompiler, pieces: Pieces, think: int, by_id: bool
) -> None:
    name = f"<[{think}]>" if by_id else "<think>"
    matcher = compiler.compile(f'root ::= "a" {name} "b"').matcher()
    a, b = spell(pieces, b"a"), spell(pieces, b"b")
    assert specials(matcher.mask()) == [] and not matcher.allows(think)
    assert feed(matcher, a)
    assert specials(matcher.mask()) == [think]
    assert matcher.allows(think) and matcher.allows_each(np.array([think, *b])).tolist() == [True, False]
    matcher.accept(think)
    assert specials(matcher.mask()) == []
    assert feed(matcher, b) and matcher.must_stop


def test_a_named_token_never_passes_by_its_text(compiler: GrammarCompiler, think: int, pieces: Pieces) -> None:
    matcher = compiler.compile("root ::= <think> .*").matcher()
    assert specials(matcher.mask()) == [think]
    matcher.accept(think)
    assert not matcher.allows(think)
    assert feed(matcher, spell(pieces, b"<think>"))


def test_a_token_whose_text_crosses_into_its_terminal_never_reaches_llama_cpp(
    compiler: GrammarCompiler, think: int, pieces: Pieces
) -> None:
    """llama.cpp permits it and then ends the process."""
    matcher = compiler.compile('root ::= "<" <think>').matcher()
    assert matcher._sampler.allows(think)
    with pytest.raises(GrammarViolation):
        matcher.accept(think)
    assert feed(matcher, [*spell(pieces, b"<", longest=1), think]) and matcher.must_stop


@pytest.mark.parametrize(
    ("terminal", "reason"),
    [
        ("!<think>", "negated"),
        ("<[65]>", "plain text"),
        ("<|im_end|>", "ends the answer"),
        (f"<[{NUM_LOGITS}]>", "no token"),
        ("<[4294967295]>", "no token"),
    ],
)
def test_terminals_that_can_not_be_enforced_are_refused(compiler: GrammarCompiler, terminal: str, reason: str) -> None:
    with pytest.raises(GrammarInvalid, match=reason):
        compiler.compile(f'root ::= "a" {terminal}')


def test_what_only_looks_like_a_terminal_names_nothing(compiler: GrammarCompiler, pieces: Pieces) -> None:
    matcher = compiler.compile('root ::= "\\"<think>" [<>"\\]] # !<think> or <[7]>').matcher()
    assert specials(matcher.mask()) == []
    assert feed(matcher, spell(pieces, b'"<think>"', longest=1)) and matcher.must_stop


def test_where_the_state_can_not_be_read_no_special_token_passes(
    tokenizer: PreTrainedTokenizerFast, eos_id: int, tmp_path: Path, think: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StateReader, "of", classmethod(lambda *_: None))
    vocabulary: Vocabulary = vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), tmp_path)
    matcher = GrammarCompiler(vocabulary).compile('root ::= <think> | "a"').matcher()
    assert not matcher.allows(think) and specials(matcher.mask()) == []
    matcher.close()
    vocabulary.close()
