"""The quantity grammar has numbers that Python reads, with the units that the units expert converts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import answers, is_sentence, spell, walked
from training.tasks.units import CONVERSIONS

Pieces = dict[int, bytes]

UNITS = "km hm m dm cm mm t kg g mg hl l dl cl ml GW MW kW W mW".split()


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("quantity"))


def test_every_answer_of_the_expert_is_a_sentence(grammar: CompiledGrammar, pieces: Pieces) -> None:
    for text in answers("units"):
        assert is_sentence(grammar.matcher(), spell(pieces, text.encode())), text


def test_it_has_every_unit_of_the_conversions_and_its_neighbours(grammar: CompiledGrammar, pieces: Pieces) -> None:
    assert {unit for source, target, _ in CONVERSIONS for unit in (source, target)} < set(UNITS)
    for unit in UNITS:
        assert is_sentence(grammar.matcher(), spell(pieces, f"12 {unit}".encode())), unit


@pytest.mark.parametrize("number", ["0", "7", "-3", "0.5", "12.500", "999999999999.999999"])
def test_the_numbers_are_decimal(grammar: CompiledGrammar, pieces: Pieces, number: str) -> None:
    assert is_sentence(grammar.matcher(), spell(pieces, f"{number} km".encode()))


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "km",
        "5km",
        "5  km",
        " 5 km",
        "5 km ",
        "5 km.",
        "5 km m",
        "5 KM",
        "5 miles",
        "05 km",
        "5. km",
        ".5 km",
        "5,5 km",
        "1e3 m",
        "+5 m",
        "--5 m",
        "\u0665 m",
        "5 µm",
        "1" * 13 + " m",
        "0." + "1" * 7 + " m",
    ],
)
def test_anything_else_is_refused(grammar: CompiledGrammar, pieces: Pieces, text: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, text.encode()))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), prefix=st.sampled_from(["", "-", "0", "12.", "5 ", "5 m"]))
def test_a_random_walk_ends_in_a_number_and_a_unit(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    number, unit = walked(grammar, vocabulary, pieces, seed, prefix).split(" ")
    float(number)
    assert unit in UNITS
