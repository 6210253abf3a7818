"""The date grammar has exactly the dates that Python's calendar has."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import answers, feed, is_sentence, spell, walked

Pieces = dict[int, bytes]


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("date"))


def exists(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def test_every_answer_of_the_expert_is_a_sentence(grammar: CompiledGrammar, pieces: Pieces) -> None:
    for text in answers("dates"):
        assert is_sentence(grammar.matcher(), spell(pieces, text.encode())), text


@pytest.mark.parametrize("year", ["1900", "2000", "2023", "2024"])
def test_every_month_has_its_days(grammar: CompiledGrammar, pieces: Pieces, year: str) -> None:
    for month in range(14):
        for day in range(33):
            text = f"{year}-{month:02}-{day:02}"
            assert is_sentence(grammar.matcher(), spell(pieces, text.encode())) is exists(text), text


def test_leap_years_come_as_in_the_calendar(grammar: CompiledGrammar, pieces: Pieces) -> None:
    for year in [*range(405), *range(1580, 2105, 4), *range(500, 10_000, 100), *range(9950, 10_000)]:
        for text in (f"{year:04}-02-29", f"{year:04}-12-31"):
            assert is_sentence(grammar.matcher(), spell(pieces, text.encode())) is exists(text), text


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-29",
        "0000-01-01",
        "24-02-29",
        "2024-2-29",
        "20240229",
        "2024/02/29",
        "2024-W09-4",
        "2024-060",
        "2024-02-29T00:00",
        "2024-02-29 ",
        " 2024-02-29",
        "-2024-02-29",
        "+2024-02-29",
        "12024-02-29",
        "\uff12024-02-28",
    ],
)
def test_anything_else_is_refused(grammar: CompiledGrammar, pieces: Pieces, text: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, text.encode()))


def test_a_date_ends_by_itself(grammar: CompiledGrammar, pieces: Pieces) -> None:
    matcher = grammar.matcher()
    assert feed(matcher, spell(pieces, b"2024-02-29"))
    assert matcher.must_stop


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), prefix=st.sampled_from(["", "0", "20", "2000-0", "1999-02-"]))
def test_a_random_walk_ends_in_a_date_that_exists(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    assert exists(walked(grammar, vocabulary, pieces, seed, prefix))
