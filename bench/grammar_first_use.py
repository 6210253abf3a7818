"""What the first request with a new schema waits for: conversion, the trial in its process, compiling.

Wall time, since the trial is another process. Called by `grammar`.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Final

import numpy as np
from transformers import AutoTokenizer

from grammars import spec
from grammars.compiler import GrammarCompiler
from grammars.trial import Trial
from grammars.vocabulary import Vocabulary, write_vocab_gguf

NUM_SCHEMAS: Final = 60
_KINDS: Final = (
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"enum": ["low", "medium", "high"]},
    {"type": "array", "items": {"type": "string"}, "maxItems": 8},
    {"type": "string", "format": "date"},
    {"type": "string", "maxLength": 40},
    {"type": "integer", "minimum": 0, "maximum": 150},
    {"type": "string", "pattern": "^[a-z]{2,5}$"},
)


def ten_properties(number: int, is_open: bool = False) -> spec.JsonSchema:
    """A schema like no other one: names of its own, every second property required in every second schema.

    An open one admits further properties, and so any name but the ten.
    """
    names = [
        f"{kind}_{number}" for kind in ("name", "id", "score", "done", "level", "tags", "day", "note", "age", "code")
    ]
    properties = dict(zip(names, _KINDS[number % 10 :] + _KINDS[: number % 10], strict=True))
    required = names[:: 1 + number % 2]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": is_open}
    return spec.JsonSchema(json.dumps(schema))


def tables(number: int) -> spec.Narrowed:
    """Six tables of eight columns."""
    columns = ", ".join(f"col{column}_{number} INTEGER" for column in range(8))
    return spec.Narrowed("sql", "\n".join(f"CREATE TABLE t{table}_{number} ({columns});" for table in range(6)))


def measure(source: Path, vocabulary: Vocabulary, num_schemas: int = NUM_SCHEMAS) -> dict[str, tuple[float, float]]:
    """Microseconds at p50 and p99 by what was measured, each of different schemas."""
    with vocabulary_file(source) as path:
        trial = Trial(path, limit_s=10)
        compiler = GrammarCompiler(vocabulary, cache_size=1, trial=trial)
        first_use(compiler, ten_properties(num_schemas))  # waits for the worker's start
        schemas = [first_use(compiler, ten_properties(number)) for number in range(num_schemas)]
        open_ones = [first_use(compiler, ten_properties(number, is_open=True)) for number in range(num_schemas)]
        builds = [first_use(compiler, tables(number)) for number in range(num_schemas // 4)]
        trial.close()
    return {
        "schema of 10: convert": _percentiles([convert for convert, _ in schemas]),
        "schema of 10: convert + admit + trial + compile": _percentiles([sum(both) for both in schemas]),
        "open schema of 10: convert + admit + trial + compile": _percentiles([sum(both) for both in open_ones]),
        "CREATE TABLE of 6: build + admit + trial + compile": _percentiles([sum(both) for both in builds]),
    }


def first_use(compiler: GrammarCompiler, wanted: spec.Spec) -> tuple[float, float]:
    """Seconds until it is GBNF, and then until it can be used."""
    started = perf_counter()
    source = spec.source(wanted)
    made = perf_counter()
    compiler.compile_untrusted(source.gbnf, source.root, source.max_bytes, source.is_searched)
    return made - started, perf_counter() - made


@contextmanager
def vocabulary_file(source: Path) -> Iterator[Path]:
    """A GGUF file, or the one of a checkpoint's folder while it is needed."""
    if source.suffix == ".gguf":
        yield source
        return
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocabulary.gguf"
        write_vocab_gguf(AutoTokenizer.from_pretrained(source), config["vocab_size"], path)
        yield path


def _percentiles(seconds: list[float]) -> tuple[float, float]:
    p50, p99 = np.percentile(np.array(seconds) * 1e6, [50, 99]).tolist()
    return p50, p99
