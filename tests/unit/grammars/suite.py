"""Runs the JSON Schema Test Suite through the grammars; `python -m tests.unit.grammars.suite` prints what came out.

Draft 2020-12 takes a format for an annotation, and its cases under `optional/format` are for those who turn the
assertion on; so are they run. An instance is accepted when some spelling of it can be written.
"""

import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from grammars.compiler import GrammarCompiler
from grammars.errors import SchemaUnsupported
from grammars.json_schema import Draft
from grammars.vocabulary import vocabulary_for
from tests.unit.grammars.conftest import NUM_LOGITS, byte_tokenizer
from tests.unit.grammars.instances import Speaker
from tests.unit.grammars.walks import SHARED_DATA

DRAFTS = {"draft2020-12": Draft.DRAFT_2020_12, "draft7": Draft.DRAFT_7}


@dataclass
class Report:
    cases: int = 0
    right: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(folder: Path, draft: Draft, speaker: Speaker, always_asserts: bool = False) -> Report:
    report = Report()
    for file in sorted(folder.rglob("*.json")):
        asserts_formats = always_asserts or draft is Draft.DRAFT_7 or "format" in file.parent.parts
        for group in json.loads(file.read_text()):
            report.cases += len(group["tests"])
            schema = group["schema"]
            names_draft = isinstance(schema, dict) and "$schema" in schema
            try:
                grammar = speaker.grammar(schema, None if names_draft else draft, asserts_formats)
            except SchemaUnsupported as refusal:
                report.refused[refusal.keyword] += len(group["tests"])
                continue
            for case in group["tests"]:
                if speaker.admits(grammar, case["data"]) == case["valid"]:
                    report.right += 1
                else:
                    report.wrong.append(f"{file.name}: {group['description']}: {case['description']}")
    return report


def main() -> None:
    tokenizer = byte_tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        eos_id = tokenizer.get_vocab()["<|im_end|>"]
        vocabulary = vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), Path(folder))
        speaker = Speaker(GrammarCompiler(vocabulary), vocabulary.native.text_pieces())
        for name, draft in DRAFTS.items():
            report = run(SHARED_DATA / "json-schema-test-suite" / "tests" / name, draft, speaker)
            refused = ", ".join(f"{keyword} {count}" for keyword, count in report.refused.most_common())
            counts = f"{report.cases} cases, {report.right} right, {len(report.wrong)} wrong"
            sys.stdout.write(f"{name}: {counts}, {report.refused.total()} refused ({refused})\n")
        vocabulary.close()


if __name__ == "__main__":
    main()
