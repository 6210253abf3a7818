"""The grammars that come with Hotseat are found by name, and compile."""

import pytest

from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarUnknown
from tests.unit.grammars.walks import feed, spell

NAMES = ("cypher", "date", "json", "labels", "quantity", "sentence", "sql", "typescript")
LABELS = ("account", "billing", "feedback", "returns", "shipping", "technical")


def test_the_library_lists_its_grammars() -> None:
    assert library.names() == NAMES


@pytest.mark.parametrize("name", library.names())
def test_every_library_grammar_compiles(compiler: GrammarCompiler, name: str) -> None:
    matcher = compiler.compile(library.text(name)).matcher()
    assert matcher.mask().any()
    assert not matcher.is_complete


@pytest.mark.parametrize("name", ["", "xml", "../library/json", "sql.reserved", "JSON"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(GrammarUnknown, match=f"the library has: {', '.join(NAMES)}") as caught:
        library.text(name)
    assert caught.value.known == NAMES


def test_only_the_query_languages_reserve_words() -> None:
    assert {"select", "from", "raise"} < library.reserved("sql")
    assert {"match", "return", "all"} < library.reserved("cypher")
    assert {name for name in NAMES if library.reserved(name)} == {"sql", "cypher"}
    assert library.reserved("json") == library.reserved("no such grammar") == frozenset()


@pytest.mark.parametrize("label", LABELS)
def test_every_label_is_a_sentence_and_ends_by_itself(
    compiler: GrammarCompiler, pieces: dict[int, bytes], label: str
) -> None:
    matcher = compiler.compile(library.text("labels")).matcher()
    assert feed(matcher, spell(pieces, label.encode()))
    assert matcher.must_stop


@pytest.mark.parametrize("text", ["Billing", " billing", "billing ", "bill", "other", "accountbilling"])
def test_what_is_no_label_is_refused(compiler: GrammarCompiler, pieces: dict[int, bytes], text: str) -> None:
    matcher = compiler.compile(library.text("labels")).matcher()
    assert not (feed(matcher, spell(pieces, text.encode())) and matcher.is_complete)
