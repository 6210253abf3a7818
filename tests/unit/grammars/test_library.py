"""The grammars that come with Hotseat are found by name, and compile."""

import re
from operator import attrgetter

import pytest

from grammars import library
from grammars.catalogue import LibraryGrammar
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarUnknown, SchemaTextInvalid
from grammars.levels import reachable
from tests.unit.grammars.walks import feed, is_sentence, spell

NAMES = (
    "cypher", "date", "json", "json_array", "json_object", "labels", "number", "quantity", "sentence", "sql",
    "typescript",
)  # fmt: skip
LABELS = ("account", "billing", "feedback", "returns", "shipping", "technical")


def rule_names(gbnf: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+) *::=", gbnf, re.MULTILINE))


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


def test_only_languages_reserve_words() -> None:
    assert {"select", "from", "raise"} < library.reserved("sql")
    assert {"match", "return", "all"} < library.reserved("cypher")
    assert {"class", "return", "let"} < library.reserved("typescript")
    assert {name for name in NAMES if library.reserved(name)} == {"sql", "cypher", "typescript"}
    assert library.reserved("json") == library.reserved("no such grammar") == frozenset()


@pytest.mark.parametrize("grammar", library.catalogue(), ids=attrgetter("name"))
def test_every_example_is_a_sentence_of_its_grammar(
    compiler: GrammarCompiler, pieces: dict[int, bytes], grammar: LibraryGrammar
) -> None:
    compiled = compiler.compile(library.text(grammar.name))
    assert grammar.description and len(grammar.examples) >= 2
    for example in grammar.examples:
        assert is_sentence(compiled.matcher(), spell(pieces, example.encode())), example


@pytest.mark.parametrize("name", NAMES)
def test_a_grammar_has_no_rule_that_its_root_does_not_need(name: str) -> None:
    assert rule_names(reachable(library.text(name))) == rule_names(library.text(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_grammar_is_short_enough_for_a_client_to_send_it_back(name: str) -> None:
    assert len(library.text(name).encode()) <= 32 * 1024


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("sql", "cypher")])
def test_only_the_query_languages_take_a_schema(name: str) -> None:
    assert not library.find(name).takes_schema
    assert library.find_schema(name, "CREATE TABLE a (b INT);") is None
    with pytest.raises(SchemaTextInvalid, match=f"line 1: the grammar '{name}' takes no schema"):
        library.build(name, "CREATE TABLE a (b INT);")


def test_a_schema_whose_names_make_too_large_a_grammar_is_refused() -> None:
    columns = [f"{i:03}" + "x" * 60 for i in range(900)]
    with pytest.raises(SchemaTextInvalid, match=r"a grammar of [0-9,]+ bytes; the limit is 131,072"):
        library.build("sql", "CREATE TABLE a (" + ", ".join(f'"{name}"' for name in columns) + ")")


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
