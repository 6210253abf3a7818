"""What does a grammar cost per token: verifying the one that was drawn, or masking the whole vocabulary?

    python -m bench.grammar [models/nano | FILE.gguf]

Walks a sentence of every library grammar and measures at each step, on one thread. Knows the grammars room
only.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final, NamedTuple

from transformers import AutoTokenizer

from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.native import NativeVocab
from grammars.vocabulary import Vocabulary, vocabulary_for

SENTENCES: Final = {
    "cypher": "MATCH (a:Person {name: 'Porto'})-[:ACTED_IN]->(b:Movie) RETURN b.title;",
    "date": "2024-02-29",
    "json": '{"name": "Maria Santos", "age": 31, "tags": ["new", null]}',
    "json_array": '[{"name": "Maria Santos", "age": 31}, "x", null]',
    "json_object": '{"name": "Maria Santos", "age": 31, "tags": ["new", null]}',
    "labels": "technical",
    "number": "-12.5e3",
    "quantity": "12.5 mm",
    "sentence": "Could you please review the report as soon as possible?",
    "sql": "SELECT city, AVG(age) FROM singers WHERE age > 30 GROUP BY city ORDER BY city DESC LIMIT 3;",
    "typescript": "interface Person {\n  name: string;\n  age?: number;\n}",
}


class Costs(NamedTuple):
    """One grammar's figures; the lists have one entry per token of its sentence."""

    compile_ms: float
    matcher_us: float
    verify_us: list[float]
    must_stop_us: list[float]
    mask_ms: list[float]


def open_vocabulary(source: Path) -> Vocabulary:
    if source.suffix == ".gguf":
        native = NativeVocab(source)
        return Vocabulary(native, native.num_tokens, (native.end_id,), frozenset())
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        return vocabulary_for(tokenizer, config["vocab_size"], (tokenizer.eos_token_id,), Path(folder))


def tokens_of(vocabulary: Vocabulary, text: str) -> Iterator[int]:
    """The longest token at every place, which is near enough to the tokenizer's own choice."""
    ids = {piece: token_id for token_id, piece in vocabulary.native.text_pieces().items()}
    rest = text.encode()
    while rest:
        piece = next(rest[:end] for end in range(len(rest), 0, -1) if rest[:end] in ids)
        yield ids[piece]
        rest = rest[len(piece) :]


def seconds(call: Callable[[], object], repeats: int = 20) -> float:
    """The best of several calls: other work on the machine only ever adds."""
    best = float("inf")
    for _ in range(repeats):
        started = perf_counter()
        call()
        best = min(best, perf_counter() - started)
    return best


def measure(vocabulary: Vocabulary, name: str) -> Costs:
    gbnf = library.text(name)
    compile_ms = seconds(lambda: GrammarCompiler(vocabulary).compile(gbnf)) * 1e3
    compiled = GrammarCompiler(vocabulary).compile(gbnf)
    costs = Costs(compile_ms, seconds(compiled.matcher) * 1e6, [], [], [])
    matcher = compiled.matcher()
    for token_id in tokens_of(vocabulary, SENTENCES[name]):
        costs.verify_us.append(seconds(partial(matcher.allows, token_id)) * 1e6)
        costs.mask_ms.append(seconds(matcher.mask, 3) * 1e3)
        matcher.accept(token_id)
        costs.must_stop_us.append(seconds(lambda: matcher.must_stop) * 1e6)
    matcher.close()
    return costs


def main(arguments: list[str]) -> None:
    source = Path(arguments[0] if arguments else "models/nano")
    vocabulary = open_vocabulary(source)
    print(f"{source.name}: {vocabulary.num_logits} logits, {len(vocabulary.text_ids)} text tokens")
    print(f"{'':12}{'compile':>10}{'matcher':>10}{'verify one':>16}{'must_stop':>16}{'full mask':>16}")
    print(f"{'':12}{'ms':>10}{'µs':>10}{'µs (worst)':>16}{'µs (worst)':>16}{'ms (worst)':>16}")
    for name in library.names():
        costs = measure(vocabulary, name)
        spread = "".join(
            f"{f'{median(values):.1f} ({max(values):.1f})':>16}"
            for values in (costs.verify_us, costs.must_stop_us, costs.mask_ms)
        )
        print(f"{name:12}{costs.compile_ms:10.2f}{costs.matcher_us:10.1f}{spread}")
    vocabulary.close()


if __name__ == "__main__":
    main(sys.argv[1:])
