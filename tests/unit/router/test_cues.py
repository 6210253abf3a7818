"""What a phrase matches, and what it must not."""

import re
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.errors import ManifestInvalid
from adapters_store.manifest import CONFIG_FILE, WEIGHTS_FILE, FileEntry, parse_manifest
from router.cues import compile_cue, normalize
from router.errors import CueInvalid
from tests.unit.router.manifests import manifest

# A few letters come apart into signs when they are normalized; what is left of them is several words.
WORD = st.text(st.characters(categories=["Ll", "Nd"]), min_size=3, max_size=8).filter(
    lambda text: re.fullmatch(r"\w+", normalize(text)) is not None
)
# The Turkish dotless i is no small letter of I in Unicode's folding.
FOLDING_WORD = WORD.filter(lambda word: normalize(word.upper()) == normalize(word))


def is_in(phrase: str, text: str) -> bool:
    return bool(compile_cue(phrase).find(normalize(text)))


@pytest.mark.parametrize("text", ["classical music", "subclass", "sub-class", "class-based", "class_name", "classé"])
def test_a_cue_does_not_fire_inside_a_longer_word(text: str) -> None:
    assert not is_in("class", text)


@pytest.mark.parametrize("text", ["class", "a CLASS.", '"class"', "(class)", "class's", "é class, ção"])
def test_a_cue_fires_on_the_whole_word_whatever_stands_around_it(text: str) -> None:
    assert is_in("class", text)


@pytest.mark.parametrize(
    ("phrase", "text"),
    [
        ("tradução", "Faz a TRADUÇÃO disto"),
        ("tradução", "faz a traduça\u0303o disto"),
        ("as json", "AS  \t \uff2a\uff33\uff2f\uff2e"),
        ("straße", "STRASSE"),
        ("перевод", "Сделай ПЕРЕВОД."),
        ("翻译成英文", "翻译成英文"),
    ],
)
def test_case_width_accents_and_spacing_do_not_matter(phrase: str, text: str) -> None:
    assert is_in(phrase, text)


def test_letters_beyond_ascii_are_letters() -> None:
    assert not is_in("port", "portão")
    assert not is_in("ação", "traduação")


@pytest.mark.parametrize("text", ["extract as json", "extract it as json", "Extract the name, age and city as JSON"])
def test_a_gap_stands_for_the_words_between(text: str) -> None:
    assert is_in("extract ... as json", text)


@pytest.mark.parametrize("end", [". ", "! ", "? ", ": ", "; ", "\n"])
def test_a_gap_does_not_leave_its_clause(end: str) -> None:
    assert not is_in("classify ... ticket", f"Classify this{end}I bought a ticket")


def test_a_gap_is_bounded() -> None:
    assert is_in("extract ... json", f"extract {'x' * 70} json")
    assert not is_in("extract ... json", f"extract {'x' * 90} json")


def test_a_gap_needs_whole_words_on_both_sides() -> None:
    assert not is_in("extract ... json", "extracts the jsonp")
    assert not is_in("extract ... json", "extract the jsonp")


def test_a_caret_asks_for_the_beginning_of_a_line() -> None:
    assert is_in("^ticket:", "Ticket: my parcel is late")
    assert is_in("^ticket:", "Please sort.\nTicket: my parcel is late")
    assert not is_in("^ticket:", "Book a plane ticket: Lisbon to Rome")


def test_a_cue_may_end_in_a_sign() -> None:
    assert is_in("create table ... (", "CREATE TABLE pets(name TEXT)")
    assert is_in("```ts", "fix this ```ts\nlet a```")


def test_signs_in_a_cue_have_no_meaning_of_their_own() -> None:
    assert is_in("match (n)-[", "MATCH (n)-[:KNOWS]->(m)")
    assert not is_in("a.b", "axb")


def test_the_positions_are_those_of_the_words_and_not_of_the_gap() -> None:
    assert compile_cue("ab ... ef").find("x ab cd ef") == frozenset({2, 3, 8, 9})


@pytest.mark.parametrize("phrase", ["", "   ", "...", "a ...", "... a", "a ... ... b", "^", "^ ... a"])
def test_a_phrase_without_words_where_there_should_be_some_is_refused(phrase: str) -> None:
    with pytest.raises(CueInvalid, match="has no words"):
        compile_cue(phrase)


@given(st.text(max_size=40))
def test_whatever_a_manifest_may_say_can_be_compiled(phrase: str) -> None:
    files = tuple(FileEntry(name, 1, "0" * 64) for name in (CONFIG_FILE, WEIGHTS_FILE))
    try:
        accepted = parse_manifest(replace(manifest("a", cues=(phrase,)), files=files).to_json())
    except ManifestInvalid:
        return
    assert compile_cue(accepted.routing.cues[0]).phrase == phrase


@given(st.lists(FOLDING_WORD, min_size=1, max_size=3), st.sampled_from([" ", "  ", "\t", "\n"]))
def test_a_phrase_is_found_in_itself_whatever_its_spacing_and_case(words: list[str], space: str) -> None:
    assert is_in(" ".join(words), f"before, {space.join(words).upper()}; after")


@given(WORD, WORD, WORD)
def test_a_word_is_never_found_within_another(word: str, before: str, after: str) -> None:
    for longer in (before + word, word + after, before + word + after):
        assert not is_in(word, longer)


def test_a_huge_prompt_is_searched_at_its_ends_only_and_at_once() -> None:
    cue = compile_cue("extract ... as json")
    started = time.perf_counter()
    assert cue.find(normalize("Extract it as JSON: " + "word " * 200_000))
    assert cue.find(normalize("word " * 200_000 + "Extract it as JSON."))
    assert not cue.find(normalize("word " * 100_000 + "extract it as json " + "word " * 100_000))
    assert not cue.find(normalize("extract " * 100_000))
    assert time.perf_counter() - started < 2
