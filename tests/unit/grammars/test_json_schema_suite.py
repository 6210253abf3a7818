"""The JSON Schema Test Suite: every case is right, or its schema is refused by the keyword. There are no exceptions.

`python -m tests.unit.grammars.suite` prints the counts that `grammars/README.md` quotes.
"""

import pytest

from grammars.compiler import GrammarCompiler
from tests.unit.grammars.instances import Speaker
from tests.unit.grammars.suite import DRAFTS, run
from tests.unit.grammars.walks import shared

# A floor, so that coverage can not rot: cases whose schema is converted.
FLOORS = {"draft2020-12": 1_430, "draft7": 1_180}


@pytest.mark.parametrize("name", DRAFTS)
def test_every_case_is_right_or_its_schema_is_refused(
    compiler: GrammarCompiler, pieces: dict[int, bytes], name: str
) -> None:
    report = run(shared(f"json-schema-test-suite/tests/{name}"), DRAFTS[name], Speaker(compiler, pieces))
    assert report.wrong == []
    assert report.right + report.refused.total() == report.cases > 1_700
    assert report.right >= FLOORS[name]


def test_enforced_formats_reject_only_what_an_annotation_would_let_pass(
    compiler: GrammarCompiler, pieces: dict[int, bytes]
) -> None:
    folder = shared("json-schema-test-suite/tests/draft2020-12")
    report = run(folder, DRAFTS["draft2020-12"], Speaker(compiler, pieces), always_asserts=True)
    assert len(report.wrong) == 11
    assert all(case.endswith("is only an annotation by default") for case in report.wrong)
