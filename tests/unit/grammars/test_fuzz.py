"""Against thousands of broken and grown grammars: no crash, no hang, and llama.cpp agrees."""

import gc
from collections import Counter
from collections.abc import Callable
from time import thread_time

import pytest

from grammars.admission import admit
from grammars.errors import GrammarInvalid
from grammars.gbnf import MAX_BYTES, parse
from grammars.trial import Trial
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.grammar_texts import KILLERS, mutations
from tests.unit.grammars.raw_llama import raw_llama

# Where we refuse as syntax what llama.cpp reads as something else, or dies of.
STRICTER = (
    "nested parentheses",
    "nested more than",
    "repetitions; the limit",
    "a repetition of at least",
    "is defined again",
    "the class is empty",
    "is reversed",
    "beyond Unicode",
    "lone surrogate",
    "NUL character",
    "more than nine digits",
)


def fuzz(vocabulary: Vocabulary, seed: int, count: int, trial_every: int) -> Counter[str]:
    """Counts of what became of the texts; fails on the first that is treated wrongly.

    Of those that are admitted, one in `trial_every` is tried.
    """
    counts: Counter[str] = Counter()
    gc.disable()  # its pauses are not the parser's
    try:
        with raw_llama(vocabulary.native.path) as raw:
            trial = Trial(vocabulary.native.path, limit_s=300)  # a busy machine is not a hang
            try:
                for number, text in enumerate(mutations(seed, count)):
                    result = outcome(raw.word_on, text)
                    if result == "admitted" and number % trial_every == 0:
                        result = tried(trial, text)
                    counts[result] += 1
                    if number % 500 == 0:
                        gc.collect()
            finally:
                trial.close()
            counts["deaths of llama.cpp"] = raw.num_deaths
    finally:
        gc.enable()
    return counts


def outcome(word_on: Callable[[str], str], text: str) -> str:
    started = thread_time()
    admitted, is_syntax, reason = None, True, ""
    try:
        parse(text)
        is_syntax = False
        admitted = admit(text)
    except GrammarInvalid as fault:
        reason = fault.reason
    assert thread_time() - started < 0.1, text
    if admitted is not None:
        if all(token.text is None for token in admitted.lowered.tokens()):  # the vocabulary is for the trial to know
            assert word_on(text) == "accepted", text
        return "admitted"
    assert 0 < len(reason) < 300
    if not is_syntax:
        return "refused for its meaning"
    if any(words in reason for words in STRICTER):
        return "refused as syntax, llama.cpp is laxer"
    assert word_on(text) == "refused", (text, reason)
    return "refused as syntax"


def tried(trial: Trial, text: str) -> str:
    try:
        trial.check(text, "root", MAX_BYTES)
    except GrammarInvalid as fault:
        assert fault.is_final, (text, str(fault))  # neither a crash nor too long
        assert "ambiguous" in fault.reason or "token" in fault.reason, (text, str(fault))
        return "refused by the trial"
    return "good"


def test_thousands_of_mutated_grammars_are_treated_as_llama_cpp_treats_them(vocabulary: Vocabulary) -> None:
    counts = fuzz(vocabulary, seed=1, count=1_500, trial_every=4)
    assert counts["good"] > 30
    assert counts["admitted"] > 100
    assert counts["refused as syntax"] > 200
    assert counts["refused for its meaning"] > 200


@pytest.mark.slow
def test_a_hundred_thousand_mutated_grammars_are_treated_as_llama_cpp_treats_them(vocabulary: Vocabulary) -> None:
    counts = fuzz(vocabulary, seed=2, count=100_000, trial_every=10)
    print(dict(counts))  # noqa: T201
    assert counts["good"] > 1_000


@pytest.mark.slow
def test_the_killers_do_kill_the_unprotected_llama_cpp(vocabulary: Vocabulary) -> None:
    with raw_llama(vocabulary.native.path) as raw:
        words = {name: raw.word_on(text) for name, text in KILLERS.items() if "surrogate" not in name}
    assert sum(word == "dead" for word in words.values()) >= 6, words
