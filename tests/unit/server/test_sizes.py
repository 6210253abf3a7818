"""Sizes as operators write them, and as they are printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GiB", 24 << 30),
        ("16GB", 16 * 10**9),
        ("512MiB", 512 << 20),
        ("1.5 gib", 3 << 29),
        ("2.5", 2),
        ("7 B", 7),
        ("1TiB", 1 << 40),
        ("64kB", 64_000),
        ("123", 123),
        ("0", 0),
    ],
)
def test_a_size_is_read_in_its_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "-1", "-3GiB", "24 cups", "GiB", "1e9", "24GiB of it", "2,000MiB", "nan", "inf", "\u0664GB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size; write it as 24GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 29, "1.50 GiB"),
     (-(1 << 20), "-1.0 MiB"), (2000 << 30, "2,000.00 GiB")],
)  # fmt: skip
def test_a_size_is_printed_in_the_largest_unit_that_it_fills(size: int, text: str) -> None:
    assert format_size(size) == text


@given(st.integers(0, 1 << 50))
def test_what_is_printed_is_read_as_nearly_the_same(size: int) -> None:
    read = parse_size(format_size(size).replace(",", "").replace("bytes", "b"))
    assert read == pytest.approx(size, rel=0.06)
