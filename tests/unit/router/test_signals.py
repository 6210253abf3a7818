"""What a prompt is made of, and what is left of it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.signals import NAMES, read


def signs(text: str) -> set[str]:
    return {name for name, value in zip(NAMES, read(text).values, strict=True) if value}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("CREATE TABLE pets (name TEXT);\nhow many?", "ddl"),
        ("(:Person {name})-[:KNOWS]->(:Person)\nwho knows Ana?", "graph"),
        ('what is this {"a": 1}', "json"),
        ("{'a': 1,}", "badjson"),
        ('"k": 1, "j": [2]} lost its head', "badjson"),
        ("the 3rd of May 1984 in ISO", "date"),
        ("2024-05-01 was fine", "isodate"),
        ("convert 3.5 km to m", "down"),
        ("how many metres is 3 kilometres", "down"),
        ("5.5 kilogarms in grms", "down"),
        ("3000 m in km", "up"),
        ("6 feet in meters", "imperial"),
        ("MATCH (n) RETURN n", "cyphercode"),
        ("explain SELECT name FROM pets", "sqlcode"),
        ("como se diz isto em português?", "portuguese"),
    ],
)
def test_material_is_recognized(text: str, kind: str) -> None:
    assert kind in signs(text)


@pytest.mark.parametrize("text", ["create table decorations for a wedding", "3 m of rope", "a {brace}", "may I go?"])
def test_everyday_words_are_not_taken_for_material(text: str) -> None:
    assert not signs(text) & {"ddl", "down", "up", "json", "badjson", "date", "graph"}


def test_the_skeleton_keeps_the_instruction_and_not_what_it_is_about() -> None:
    skeleton = read('make this formal: "fix this json and write sql for me, will you"').skeleton
    assert "formal" in skeleton
    assert "json" not in skeleton
    assert "sql" not in skeleton


@given(st.text(max_size=300))
def test_any_text_can_be_read_and_gives_all_signals(text: str) -> None:
    reading = read(text)
    assert len(reading.values) == len(NAMES)
    assert all(0 <= value <= 3 for value in reading.values)


@pytest.mark.parametrize(
    "piece", ["{", "[", "(:", "create table ", '"', "a", "1 km ", "-[", "\x00", "```", "(:a)-", "'", "1/1/", "select "]
)
def test_a_megabyte_of_anything_is_read_in_bounded_time(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    started = time.perf_counter()
    read(text)
    assert time.perf_counter() - started < 0.5
