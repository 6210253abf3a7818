"""`hotseat router train`, `eval` and `explain`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.__main__ import cli

ROOT = Path(__file__).parents[3]
EXPERTS = ROOT / "adapters_store" / "experts"
DEV = ROOT / "bench" / "prompts" / "router_dev.jsonl"


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(
        cli, ["router", *words], env={"HOTSEAT_ROUTER__ROUTER_PARSER": "none", "COLUMNS": "200"}
    )
    assert result.exit_code == code, result.output
    return result.output


def test_explain_says_what_the_route_endpoint_says() -> None:
    reply = json.loads(run("explain", "traduz para português: the old boat is red"))
    assert [one["expert"] for one in reply["selected"]] == ["en-pt"]
    assert reply["reason"]


def test_explain_keeps_to_what_is_allowed() -> None:
    reply = json.loads(run("explain", "@sql count", "--allowed", "units"))
    assert reply["selected"] == []


def test_a_router_is_trained_evaluated_and_asked(tmp_path: Path) -> None:
    rows = []
    for number, line in enumerate(DEV.read_text().splitlines()):
        row = json.loads(line)
        split = "held" if number % 4 == 0 else "train"
        rows.append({"text": row["text"], "experts": [row["expert"]] if row["expert"] else [], "split": split})
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    out = run("train", str(path), str(tmp_path / "router"), "--epochs", "8")
    assert "epoch 8" in out
    assert "entropy" in out
    assert "10 experts" in out
    table = run("eval", str(DEV), "--router", str(tmp_path / "router"), "--wrong")
    assert "620" in table
    assert all("expected" in json.loads(line) for line in table.splitlines() if line.startswith("{"))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"text": 1, "experts": [], "split": "train"}', "rows.jsonl:1"),
        ('{"text": "a", "experts": ["nobody"], "split": "train"}', "no such expert"),
        ("nonsense", "rows.jsonl"),
        ('{"text": "a", "experts": [], "split": "train"}', "rows are needed"),
    ],
)
def test_rows_that_do_not_serve_are_refused_by_name(tmp_path: Path, line: str, fault: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line)
    assert fault in run("train", str(path), str(tmp_path / "out"), code=1).replace("\n", "")
