"""The bench of jumping runs on the embedded base, and what it wants of ten required fields is reached."""

import json
from pathlib import Path

import pytest

from bench import jump


def test_ten_fields_take_at_most_seventy_percent_of_the_passes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[3])
    jump.main(["--runs", "1"])
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    num_tokens, num_drawn = record["replay"]
    assert num_drawn <= 0.7 * num_tokens
    assert len(record["rows"]) == 5
    assert all(row["share_of_passes"] <= 0.7 for row in record["rows"] if row["case"].startswith("ten fields"))
    assert record["rows"][-1]["same_texts"] == 1.0
