"""The benches that draw tables: what they compute, on figures small enough to check by hand."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import kinds, picture, quality, sizes
from bench.validity import VALIDATORS
from training.experts import EXPERTS
from training.tasks import TASKS

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("megabytes", "expected"),
    [(0.5, "below all classes"), (1, "ultralight, 0 % up"), (3, "ultralight, 50 % up"), (7, "between classes"),
     (20, "medium, 100 % up"), (35, "heavy, 50 % up"), (60, "above all classes")],
)  # fmt: skip
def test_a_size_falls_into_its_class(megabytes: float, expected: str) -> None:
    assert sizes.size_class(megabytes) == expected


def test_values_are_counted_at_the_shape_of_qwen3() -> None:
    """Attention of 28 layers: q 1024 to 2048, k and v to 1024, o back; rank 8, and DoRA's magnitudes."""
    low_rank = 8 * ((1024 + 2048) + 2 * (1024 + 1024) + (2048 + 1024))
    magnitudes = 2048 + 1024 + 1024 + 1024
    assert sizes.num_values(EXPERTS["ticket-triage"], sizes.qwen3_shape()) == 28 * (low_rank + magnitudes)


def test_every_task_has_an_expert_a_validator_and_a_row() -> None:
    assert set(TASKS) == set(EXPERTS) == set(VALIDATORS)


@pytest.mark.parametrize(
    ("task", "text"),
    [("sql", "SELECT FROM"), ("sql", ""), ("sql", "singers"), ("sql", "DROP TABLE a"),
     ("typescript", "hello"), ("cypher", "MATCH (a:B RETURN a;"), ("typescript", "interface A {"), ("typescript", ""),
     ("dates", "2023-02-29"), ("dates", "20230228"), ("units", "34 parsecs"), ("units", "x km"), ("en-pt", "sem fim"),
     ("json-repair", "{a: 1}"), ("ticket-triage", "Billing"), ("formal-tone", "")],
)  # fmt: skip
def test_what_is_no_answer_in_its_language_is_not_valid(task: str, text: str) -> None:
    assert not VALIDATORS[task](text)


def row(task: str, expert: float, others: dict[str, float]) -> quality.Row:
    return quality.Row(task, "lora", 2048, 1.0, 0.0, expert, 0.75, 0.5, 0.0, 1.0, 1.0, others)


def test_the_picture_holds_the_figures_and_nothing_from_elsewhere(tmp_path: Path) -> None:
    rows = [row("sql", 0.955, {"dates": 0.125}), row("dates", 1.0, {"sql": 0.0})]
    picture.draw([quality.line(row) for row in rows], "A & B", tmp_path / "docs" / "table.svg")
    drawn = (tmp_path / "docs" / "table.svg").read_text()
    assert "95.5" in drawn and "12.5" in drawn
    assert "http" not in drawn.replace('xmlns="http://www.w3.org/2000/svg"', "")
    root = ElementTree.fromstring(drawn)
    assert next(element.text for element in root if element.tag.endswith("text")) == "A & B"


def test_kinds_are_told_by_their_mean_and_their_ratio() -> None:
    table = kinds.render({("sql", "lora r16"): [0.5, 0.7], ("sql", "dora r12"): [0.66, 0.66]}, 10, 100)
    cells = [list(column.cells) for column in table.columns]
    assert cells[2] == ["60.0 (50.0 to 70.0)", "66.0 (66.0 to 66.0)"]
    assert cells[3] == ["1.000", "1.100"]


def test_one_training_of_the_comparison_runs_and_is_not_run_again(tmp_path: Path) -> None:
    job = kinds.Job("units", "ia3 + 8 tokens", 1, steps=1, count=4, base=str(ROOT / "models" / "nano"))
    known = replace(job, seed=2)
    file = tmp_path / "kinds.jsonl"
    file.write_text(json.dumps({"job": asdict(known), "exact": 0.25}) + "\n")
    results = kinds.run([job, known], 1, file)
    assert results[known] == 0.25 and 0.0 <= results[job] <= 1.0
    assert kinds.read_results(file) == results
