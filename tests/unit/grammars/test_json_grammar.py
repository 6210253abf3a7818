"""Whatever the JSON grammar lets end, a JSON parser reads; whatever RFC 8259 forbids, it refuses."""

import json
import math
from pathlib import Path
from random import Random
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import feed, is_sentence, shared, spell, text_of, walk, walked

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Pieces = dict[int, bytes]

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False, min_value=-1e90, max_value=1e90).filter(
        lambda number: number == 0 or abs(number) > 1e-90
    )
    | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("json"))


def conformance_files(kind: str) -> list[Path]:
    files = sorted(shared("nst-jsontestsuite/test_parsing").glob(f"{kind}_*.json"))
    assert len(files) == {"y": 95, "n": 188}[kind]
    return files


@pytest.mark.parametrize("longest", [1, 64])
def test_every_text_that_a_parser_must_accept_is_accepted(
    grammar: CompiledGrammar, pieces: Pieces, longest: int
) -> None:
    for file in conformance_files("y"):
        text = file.read_bytes().strip()  # our answers carry no white space around the value
        assert is_sentence(grammar.matcher(), spell(pieces, text, longest)), file.name


@pytest.mark.parametrize("longest", [1, 64])
def test_every_text_that_a_parser_must_reject_is_rejected(
    grammar: CompiledGrammar, pieces: Pieces, longest: int
) -> None:
    for file in conformance_files("n"):
        # Two files hold 100,000 brackets; the nesting limit refuses them within the first hundred bytes.
        assert not is_sentence(grammar.matcher(), spell(pieces, file.read_bytes()[:2000], longest)), file.name


@settings(max_examples=80, deadline=None)
@given(value=VALUES, indent=st.sampled_from([None, 1, 2]), is_ascii=st.booleans())
def test_what_python_writes_is_accepted(
    grammar: CompiledGrammar, pieces: Pieces, value: Json, indent: int | None, is_ascii: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    assert is_sentence(grammar.matcher(), spell(pieces, text.encode())), text


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), prefix=st.sampled_from(["", "{", "[", '{"a": [{"', '["\\u', "-", '"']))
def test_a_random_walk_ends_in_text_that_parses(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    matcher = grammar.matcher()
    started = spell(pieces, prefix.encode())
    assert feed(matcher, started)
    closers = spell(pieces, b'"}]:n0', longest=1)
    text = text_of(pieces, started + walk(matcher, vocabulary, Random(seed), closers))
    matcher.close()
    value = json.loads(text, parse_constant=pytest.fail)
    json.dumps(value, ensure_ascii=False).encode()  # no lone surrogate has come out of an escape
    assert text == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud83d"',
        '"\\ude42"',
        '"\\ud83dx"',
        '"\\ud83d\\u0041"',
        '"\\uDE42\\uD83D"',
        "1e100",
        "1E-100",
        " 1",
        "{} ",
        "[\t1]",
        "[" + " " * 4 + "]",
        '"' + "x" * 1001 + '"',
        "[" * 17 + "]" * 17,
    ],
)
def test_what_would_run_away_or_break_a_reader_is_refused(grammar: CompiledGrammar, pieces: Pieces, text: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        '"\\ud83d\\ude42"',
        '"\\uFFFF\\ud7ff\\ue000"',
        "-0",
        "0.10",
        "[" * 16 + "]" * 16,
        '"' + "é" * 1000 + '"',
    ],
)
def test_the_limits_themselves_are_allowed(grammar: CompiledGrammar, pieces: Pieces, text: str) -> None:
    assert is_sentence(grammar.matcher(), spell(pieces, text.encode()))


def test_the_largest_number_is_finite(grammar: CompiledGrammar, pieces: Pieces) -> None:
    text = "-" + "9" * 40 + "." + "9" * 80 + "e+99"
    assert is_sentence(grammar.matcher(), spell(pieces, text.encode()))
    assert math.isfinite(json.loads(text))


@pytest.mark.parametrize("text", ["{}", '{"a": 1}', "[1, 2]", '"x"', "true", "null"])
def test_a_closed_value_ends_by_itself(grammar: CompiledGrammar, pieces: Pieces, text: str) -> None:
    matcher = grammar.matcher()
    assert feed(matcher, spell(pieces, text.encode()))
    assert matcher.must_stop


# White space around the value is all that the suite has and the grammar has not.
SURROUNDED = {
    "y_array_with_leading_space.json",
    "y_array_with_trailing_space.json",
    "y_number_double_close_to_zero.json",
    "y_structure_trailing_newline.json",
    "y_structure_whitespace_array.json",
}


def test_only_white_space_around_the_value_tells_the_grammar_from_the_suite(
    grammar: CompiledGrammar, pieces: Pieces
) -> None:
    refused = {
        file.name
        for file in conformance_files("y")
        if not is_sentence(grammar.matcher(), spell(pieces, file.read_bytes()))
    }
    assert refused == SURROUNDED


@pytest.mark.parametrize(("name", "kind"), [("json_object", dict), ("json_array", list)])
def test_a_root_of_one_kind_takes_the_texts_of_that_kind_and_no_others(
    compiler: GrammarCompiler, pieces: Pieces, name: str, kind: type
) -> None:
    narrowed = compiler.compile(library.text(name))
    for file in conformance_files("y"):
        text = file.read_bytes().strip()
        expected = isinstance(json.loads(text), kind)
        assert is_sentence(narrowed.matcher(), spell(pieces, text)) is expected, file.name
    for file in conformance_files("n"):
        assert not is_sentence(narrowed.matcher(), spell(pieces, file.read_bytes()[:2000])), file.name


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_random_walk_from_such_a_root_ends_in_that_kind(
    compiler: GrammarCompiler, vocabulary: Vocabulary, pieces: Pieces, seed: int
) -> None:
    for name, kind in (("json_object", dict), ("json_array", list)):
        grammar = compiler.compile(library.text(name))
        assert isinstance(json.loads(walked(grammar, vocabulary, pieces, seed, closers=b'"}]:n0')), kind)
