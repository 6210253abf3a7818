"""Regular expressions as grammars of their own: what is refused, and what llama.cpp would get wrong."""

import time

import pytest

from grammars.compiler import GrammarCompiler
from grammars.errors import RegexUnsupported
from grammars.regex import to_gbnf
from tests.unit.grammars.instances import Speaker


@pytest.fixture(scope="module")
def speaker(compiler: GrammarCompiler, pieces: dict[int, bytes]) -> Speaker:
    return Speaker(compiler, pieces)


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("a|bc", ["a", "bc"], ["", "abc", "c"]),
        (r"\d{3}-\d{2}", ["123-45"], ["123-4", "1234-5", "x"]),
        (r'"[^"\\]*"', ['"é🙂"', '""'], ['"', '"\\"']),
        ("^a$|^b", ["a", "b"], ["ab", "^a"]),
        ("a^b|c", ["c"], ["ab", "a^b"]),
        (r"\u00e9\x41\u{1F642}\ud83d\ude42", ["éA🙂🙂"], ["éA🙂"]),
        (r"[\]\-^]+", ["]-^"], ["[", ""]),
        ("[^]", ["x", "\n"], ["", "xy"]),
        ("x{,3}", ["x{,3}"], ["xx"]),
        (".", ["é"], ["\n", "\u2028", ""]),
    ],
)
def test_the_whole_text_has_to_match(speaker: Speaker, pattern: str, inside: list[str], outside: list[str]) -> None:
    grammar = speaker.expression(pattern)
    assert all(speaker.reads(grammar, text) for text in inside)
    assert not any(speaker.reads(grammar, text) for text in outside)


@pytest.mark.parametrize(
    ("pattern", "reason", "position"),
    [
        ("a(?=b)", "lookahead", 3),
        ("(?<!b)a", "lookbehind", 2),
        (r"(a)\1", "back-references", 5),
        (r"a\b", "word boundaries", 3),
        (r"\p{L}", "Unicode properties", 2),
        ("(?i)a", "flags", 2),
        ("a**", "a quantifier after a quantifier", 3),
        ("*a", "nothing before it", 0),
        ("(a", "closing parenthesis", 2),
        ("a)", "opening one", 1),
        ("[a", "closing bracket", 2),
        ("[b-a]", "backwards", 4),
        ("a{3,2}", "from 3 to 2", 1),
        ("a{2001}", "beyond 2,000", 1),
        ("\ud800", "surrogate", 1),
        ("(" * 65, "deeper than 64", 65),
        ("a" * 4_097, "4,097 characters", 4_096),
        ("a^", "no text matches", 0),
        ("(((a{2000}){2000}){2000})", "positions", 0),
        ("(a|b)*a(a|b){30}", "steps|states", 0),
    ],
)
def test_what_no_grammar_can_hold_is_refused_with_its_position(pattern: str, reason: str, position: int) -> None:
    started = time.process_time()
    with pytest.raises(RegexUnsupported, match=reason) as refusal:
        to_gbnf(pattern)
    assert refusal.value.position == position
    assert time.process_time() - started < 1.5


def test_more_repetitions_than_llama_cpp_counts_are_counted_all_the_same(speaker: Speaker) -> None:
    most = speaker.expression("a{0,2000}a{0,100}")
    assert speaker.reads(most, "a" * 2_100)
    assert not speaker.reads(most, "a" * 2_101)
    least = speaker.expression("[ab]{2000}[ab]{100}")
    assert speaker.reads(least, "ab" * 1_050)
    assert not speaker.reads(least, "ab" * 1_049)
