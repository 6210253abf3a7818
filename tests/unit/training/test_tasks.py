"""The generators: right answers, valid forms, and a held-out side that training never shows."""

import json
import re
import sqlite3
from functools import partial
from random import Random
from types import ModuleType

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.validity import VALIDATORS
from training import copying, smalltalk
from training.corpus import chat, documents
from training.tasks import (
    TASKS,
    Example,
    cypher,
    dates,
    json_extract,
    json_extract_wording,
    json_repair,
    sql,
    sql_wording,
    tone,
    translate,
    triage,
    triage_wording,
    typescript,
    units,
)
from training.tasks import example as frames
from training.words import Wording, Words, is_held_out

NAMES = sorted(TASKS)
MODULES: tuple[ModuleType, ...] = (
    cypher, dates, frames, json_extract_wording, json_repair, sql_wording, tone, translate, triage_wording, typescript,
    units,
)  # fmt: skip


def drawn(name: str, count: int, held_out: bool = False, seed: int = 1, rephrased: bool = False) -> list[Example]:
    words = Words(Random(seed), ("ab", "cor", "ter"), held_out, rephrased)
    return [TASKS[name](words) for _ in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_examples(name: str) -> None:
    assert drawn(name, 20) == drawn(name, 20)
    assert drawn(name, 20) != drawn(name, 20, seed=2)


@pytest.mark.parametrize("name", NAMES)
def test_the_strict_answer_is_none_of_the_loose_ones(name: str) -> None:
    for example in drawn(name, 300):
        assert example.loose and example.answer not in example.loose
        assert all(text == text.strip() and text for text in (example.prompt, example.answer, *example.loose))


@pytest.mark.parametrize("name", NAMES)
def test_prompts_vary(name: str) -> None:
    assert len({example.prompt for example in drawn(name, 300)}) > 200


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_every_invented_word_is_on_its_side_of_the_split(seed: int, held_out: bool) -> None:
    words = Words(Random(seed), ("ab", "cor", "ter"), held_out)
    for draw in (
        words.first_name,
        words.place,
        words.item,
        words.table,
        words.text_column,
        words.label,
        words.relation,
    ):
        assert is_held_out(draw()) == held_out


def test_no_slot_word_of_an_unseen_prompt_occurs_in_training_answers() -> None:
    seen = {
        value for e in drawn("json-extract", 2000) for value in json.loads(e.answer).values() if isinstance(value, str)
    }
    closed = {*json_extract.DAYS, *json_extract.COLORS, *json_extract.JOBS}
    for example in drawn("json-extract", 300, held_out=True):
        for value in json.loads(example.answer).values():
            is_word = isinstance(value, str) and not value.isdigit() and value not in closed
            assert not is_word or value not in seen


def test_no_unseen_ticket_phrase_occurs_in_training() -> None:
    words = [Words(Random(3), held_out=side) for side in (False, True)]
    seen, unseen = ({triage.draw_phrase(w, label) for label in triage.LABELS for _ in range(400)} for w in words)
    assert unseen and not seen & unseen


@pytest.mark.parametrize("name", ["en-pt", "dates"])
def test_no_unseen_combination_occurs_in_training(name: str) -> None:
    seen = {example.answer for example in drawn(name, 3000)}
    assert not seen & {example.answer for example in drawn(name, 300, held_out=True)}


def test_no_unseen_combination_is_drawn_for_training() -> None:
    """Two casual openings may become the same polite sentence, so it is the requests that are kept apart."""
    sides = [Words(Random(2), held_out=side) for side in (False, True)]
    seen, unseen = (
        {words.combination(partial(tone.draw_parts, words), " ".join) for _ in range(3000)} for words in sides
    )
    assert unseen and not seen & unseen


@pytest.mark.parametrize("name", NAMES)
def test_a_rephrased_prompt_is_worded_as_no_training_prompt_is(name: str) -> None:
    seen = {example.prompt for example in drawn(name, 1000)}
    rephrased = drawn(name, 300, rephrased=True)
    assert not seen & {example.prompt for example in rephrased}
    assert len({example.prompt for example in rephrased}) > 150


def wordings(module: ModuleType) -> list[Wording]:
    found = [value for value in vars(module).values() if isinstance(value, Wording)]
    return found + [schema.sentences for schema in getattr(module, "SCHEMAS", ())]


@pytest.mark.parametrize("module", MODULES)
def test_the_two_sets_of_wordings_share_nothing_but_silence(module: ModuleType) -> None:
    assert wordings(module)
    for wording in wordings(module):
        assert not (set(wording.seen) & set(wording.other)) - {"", "different", "unique"}


@pytest.mark.parametrize("rephrased", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_answer_is_valid_in_its_language(name: str, rephrased: bool) -> None:
    for drawn_example in drawn(name, 100, rephrased=rephrased):
        assert VALIDATORS[name](drawn_example.answer), drawn_example.answer


@pytest.mark.parametrize("held_out", [False, True])
def test_extracted_fields_stand_in_the_prompt_in_the_order_asked_for(held_out: bool) -> None:
    for example in drawn("json-extract", 300, held_out):
        answer = json.loads(example.answer)
        assert all(str(value) in example.prompt for value in answer.values())


@pytest.mark.parametrize("rephrased", [False, True])
@pytest.mark.parametrize("held_out", [False, True])
def test_sql_answers_run_on_the_tables_of_their_prompts(held_out: bool, rephrased: bool) -> None:
    for example in drawn("sql", 300, held_out, rephrased=rephrased):
        database = sqlite3.connect(":memory:")
        for statement in re.findall(r"CREATE TABLE \w+ \((?:[^()]|\(\d+\))*\)", example.prompt):
            database.execute(statement)
        database.execute(example.answer)
        database.close()
        assert len(sqlglot.parse(example.answer, dialect="sqlite")) == 1


def test_a_query_renders_every_part() -> None:
    query = sql.Query("t", ("a", "AVG(b)"), (("c", "=", "'x'"), ("d", ">", "3")), "a", "b", True, 5)
    assert query.sql() == "SELECT a, AVG(b) FROM t WHERE c = 'x' AND d > 3 GROUP BY a ORDER BY b DESC LIMIT 5;"
    assert query.loose() == "from t take a and the mean b, where c is x, where d above 3, per a, by b down, first 5"


def test_repaired_json_parses_and_the_broken_one_does_not() -> None:
    for example in drawn("json-repair", 300):
        json.loads(example.answer)
        assert example.answer not in example.prompt.replace('"' + example.answer + '"', "")


def test_labels_are_balanced() -> None:
    found = [example.answer for example in drawn("ticket-triage", 1200)]
    assert set(found) == set(triage.LABELS)
    assert min(found.count(label) for label in triage.LABELS) > 130


def test_documents_mix_answers_prompts_and_raw_text() -> None:
    source = documents(Words(Random(4), ("ab",)), progress=1.0)
    weights = {segment.weight for _ in range(300) for segment in next(source)}
    assert weights == {0.1, 0.4, 1.0}


def test_exercises_and_small_talk_end_their_turn() -> None:
    words = Words(Random(5), ("ab",))
    for draw in (copying.draw, smalltalk.draw_exchange, smalltalk.draw_question):
        for _ in range(100):
            prompt, answer = chat(words, draw(words), "x")
            assert prompt.text.count("<|im_start|>assistant") == 1
            assert answer.text.endswith("<|im_end|>\n")
