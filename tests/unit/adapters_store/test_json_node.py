"""JSON whose faults have a place."""

import re
from collections.abc import Callable

import pytest

from adapters_store.errors import ManifestInvalid
from adapters_store.json_node import JsonNode, parse_json

SHORT = re.compile("[a-z]+")
Reading = Callable[[JsonNode], object]


@pytest.mark.parametrize(
    ("raw", "read", "fault"),
    [
        (b"[]", lambda n: n.fields(()), "$: expected an object, found a list"),
        (b'{"a": 1}', lambda n: n.fields(("a", "b")), "$.b: is missing"),
        (b'{"a": 1}', lambda n: n.fields((), ("b",)), "$.a: is not a known key"),
        (b"{}", lambda n: n.items(3), "$: expected a list, found an object"),
        (b"[1, 2]", lambda n: n.items(1), "$: has 2 entries, the limit is 1"),
        (
            b"[1, [2, true]]",
            lambda n: n.items(9)[1].items(9)[1].text(5),
            "$[1][1]: expected a string, found a boolean",
        ),
        (b"null", lambda n: n.text(9), "$: expected a string, found null"),
        (b'"abc"', lambda n: n.text(2), "$: has 3 characters, the limit is 2"),
        (b'"aBc"', lambda n: n.text(9, SHORT), "$: 'aBc' does not match [a-z]+"),
        (b'"abc\\n"', lambda n: n.text(9, SHORT), "$: 'abc\\n' does not match [a-z]+"),
        (b'"\\ud800"', lambda n: n.text(9), "$: holds half of a surrogate pair, which is not text"),
        (b'"c"', lambda n: n.choice(("a", "b")), "$: 'c' is not one of a, b"),
        (b"[1]", lambda n: n.choice(("a", "b")), "$: a list is not one of a, b"),
        (b"1.0", lambda n: n.integer(0, 5), "$: expected an integer from 0 to 5, found 1.0"),
        (b"6", lambda n: n.integer(0, 5), "$: expected an integer from 0 to 5, found 6"),
        (b'"1"', lambda n: n.number(0, 5), "$: expected a number from 0 to 5, found '1'"),
        (b"true", lambda n: n.number(0, 5), "$: expected a number from 0 to 5, found a boolean"),
        (b"1e999", lambda n: n.number(0, 5), "$: expected a number from 0 to 5, found inf"),
        (b"-0.1", lambda n: n.number(0, 5), "$: expected a number from 0 to 5, found -0.1"),
        (
            b'{"a": 1, "a": 2}',
            lambda n: n.fields("a")["a"].text(5),
            "$.a: expected a string, found a key that occurs twice",
        ),
    ],
)
def test_a_refusal_names_the_path_and_the_fault(raw: bytes, read: Reading, fault: str) -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        read(parse_json(raw))
    assert f"{refusal.value.path}: {refusal.value.fault}" == fault


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"{} {}", b"\xff", b"NaN", b"Infinity", b"[" * 100_000, b"1" * 10_000, b"{'a': 1}"],
    ids=["empty", "cut", "two", "latin", "nan", "infinity", "deep", "long number", "python"],
)
def test_what_is_not_json_is_refused_at_the_root(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid, match=r"\$: is not JSON in UTF-8"):
        parse_json(raw)


def test_what_fits_is_returned_as_it_is() -> None:
    node = parse_json('{"t": "ação", "i": 3, "n": 1, "l": [1], "c": "a", "gone": null}'.encode())
    members = node.fields(("t", "i", "n"), ("l", "c", "gone"))
    assert members["t"].text(4) == "ação"
    assert members["i"].integer(3, 3) == 3
    assert members["n"].number(0, 1) == 1.0
    assert [item.value for item in members["l"].items(1)] == [1]
    assert members["c"].choice(("a",)) == "a"
    assert "gone" not in members


def test_a_long_value_is_not_shown_in_full() -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        JsonNode("x" * 10_000).integer(0, 1)
    assert len(str(refusal.value)) < 200
