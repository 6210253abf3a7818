"""The JSON Schema Test Suite: each case is right or its schema is refused, apart from the exceptions written down here.

`pytest -s` prints the counts that `grammars/README.md` quotes.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from grammars.compiler import GrammarCompiler
from grammars.errors import SchemaUnsupported
from grammars.json_schema import Draft
from tests.unit.grammars.instances import Speaker
from tests.unit.grammars.walks import shared

DRAFTS = {"draft2020-12": Draft.DRAFT_2020_12, "draft7": Draft.DRAFT_7}
# A floor, so that coverage can not rot: cases whose schema is converted.
FLOORS = {"draft2020-12": 1500, "draft7": 1250}
# Valid instances that can not be written, all of them in three formats: host names with encoded labels, and leap
# seconds away from the zero offset.
NARROWER = {
    "draft2020-12": {"hostname": 15, "time": 4, "date-time": 1},
    "draft7": {"hostname": 15, "time": 4, "date-time": 1},
}


@dataclass
class Report:
    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    narrower: Counter[str] = field(default_factory=Counter)
    annotated: int = 0  # a format is an annotation there, and enforced here
    wrong: list[str] = field(default_factory=list)


def run(folder: Path, draft: Draft, speaker: Speaker) -> Report:
    report = Report()
    for file in sorted(folder.rglob("*.json")):
        for group in json.loads(file.read_text()):
            _run_group(report, group, file, draft, speaker)
    return report


def _run_group(report: Report, group: dict[str, object], file: Path, draft: Draft, speaker: Speaker) -> None:
    schema, cases = group["schema"], group["tests"]
    assert isinstance(cases, list)
    names_draft = isinstance(schema, dict) and "$schema" in schema
    try:
        grammar = speaker.grammar(schema, None if names_draft else draft)
    except SchemaUnsupported as refusal:
        report.refused[refusal.keyword] += len(cases)
        return
    for case in cases:
        if speaker.admits(grammar, case["data"]) == case["valid"]:
            report.right += 1
        elif case["valid"] and file.name == "format.json" and "annotation" in case["description"]:
            report.annotated += 1
        elif case["valid"] and file.stem in ("hostname", "time", "date-time"):
            report.narrower[file.stem] += 1
        else:
            report.wrong.append(f"{file.name}: {group['description']}: {case['description']}")


@pytest.mark.parametrize("name", DRAFTS)
def test_every_case_is_right_or_its_schema_is_refused(
    compiler: GrammarCompiler, pieces: dict[int, bytes], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(shared(f"json-schema-test-suite/tests/{name}"), DRAFTS[name], Speaker(compiler, pieces))
    with capsys.disabled():
        refused = ", ".join(f"{keyword} {count}" for keyword, count in report.refused.most_common())
        print(f"\n{name}: {report.right} right, {report.refused.total()} refused ({refused})")
        print(f"{name}: {report.annotated} formats enforced, {dict(report.narrower)} valid but not written")
    assert report.wrong == []
    assert report.narrower == NARROWER[name]
    assert report.right >= FLOORS[name]
