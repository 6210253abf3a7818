"""What a bench prints: medians, ratios to a section's first row, and what was not run."""

import json

import pytest

from bench.report import NOT_RUN, Figure, ratio, record, show, table

SECTIONS = [
    [Figure("ours", (10.0, 30.0, 20.0)), Figure("peer", (5.0,), "of one run"), Figure("other", (), "needs --other")],
    [Figure("again", (8.0, 4.0))],
]


def test_ratios_are_of_medians_to_the_first_row_of_the_section() -> None:
    cells = [list(column.cells) for column in table("title", SECTIONS).columns]
    assert cells[1] == ["20.0", "5.0", NOT_RUN, "6.0"]
    assert cells[2] == ["10.0", "5.0", "", "4.0"] and cells[3] == ["30.0", "5.0", "", "8.0"]
    assert cells[4] == ["1.00", "4.00", "", "1.00"]
    assert cells[5] == ["", "of one run", "needs --other", ""]


def test_what_was_not_run_has_no_ratio() -> None:
    assert ratio(SECTIONS[0][0], SECTIONS[0][2]) is None
    assert ratio(SECTIONS[0][2], SECTIONS[0][0]) is None


def test_the_record_is_one_line_with_every_sample() -> None:
    line = record("mixed", SECTIONS, {"threads": 2})
    assert "\n" not in line
    found = json.loads(line)
    assert found["bench"] == "mixed" and found["settings"] == {"threads": 2}
    assert [row["samples"] for row in found["rows"]] == [[10.0, 30.0, 20.0], [5.0], [], [8.0, 4.0]]
    assert [row["section"] for row in found["rows"]] == [0, 0, 0, 1]
    assert [row["median"] for row in found["rows"]] == [20.0, 5.0, None, 6.0]


def test_the_table_comes_first_and_the_record_last(capsys: pytest.CaptureFixture[str]) -> None:
    show("mixed", "A title", SECTIONS, {}, "A caption")
    *drawn, line = capsys.readouterr().out.splitlines()
    assert "A title" in drawn[0] and any("A caption" in row for row in drawn)
    assert json.loads(line)["settings"]["processor"]
