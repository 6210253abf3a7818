"""What the bench calls a first use is one: a schema that nobody sent before, by way of the trial."""

from pathlib import Path

from bench import grammar_first_use
from bench.grammar_first_use import ten_properties
from bench.grammar_load import open_vocabulary
from grammars import spec
from grammars.admission import admit

NANO = Path(__file__).resolve().parents[3] / "models" / "nano"


def test_every_schema_is_another_one_with_a_grammar() -> None:
    texts = {spec.source(ten_properties(number, is_open)).gbnf for number in range(12) for is_open in (False, True)}
    assert len(texts) == 24
    for text in texts:
        assert admit(text, max_bytes=spec.MAX_MADE_BYTES)


def test_figures_are_in_order_and_the_whole_takes_longer_than_its_part() -> None:
    vocabulary = open_vocabulary(NANO)
    figures = grammar_first_use.measure(NANO, vocabulary, num_schemas=4)
    vocabulary.close()
    assert len(figures) == 4
    assert all(0 < p50 <= p99 for p50, p99 in figures.values())
    part, whole, *_ = figures.values()
    assert part[0] < whole[0]
