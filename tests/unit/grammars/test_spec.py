"""What a request may ask for instead of a name comes to GBNF that says just that."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import growth, spec
from grammars.admission import admit
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarError, GrammarInvalid, SchemaTextInvalid
from grammars.gbnf import MAX_BYTES, parse
from grammars.spelling import literal
from grammars.syntax import Literal
from tests.unit.grammars.walks import is_sentence, spell

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
ALIKE = st.text(st.sampled_from('ab"\\ \n]é'), min_size=1, max_size=6)


@given(TEXT)
def test_a_literal_is_read_back_as_the_text(text: str) -> None:
    assert parse(f"root ::= {literal(text)}").rules["root"].alternatives == ((Literal(text),),)


@given(st.sets(ALIKE, min_size=1, max_size=20), st.lists(ALIKE, max_size=20))
@settings(deadline=None, max_examples=150)
def test_a_choice_is_these_texts_and_no_others(compiler: GrammarCompiler, texts: set[str], others: list[str]) -> None:
    source = spec.source(spec.OneOf(tuple(texts)))
    growth.check(admit(source.gbnf, source.root, source.max_bytes))
    compiled = compiler.compile(source.gbnf)
    pieces = compiler_pieces(compiler)
    for text in {*texts, *others, *(text[:-1] for text in texts if text[:-1])}:
        assert is_sentence(compiled.matcher(), spell(pieces, text.encode())) is (text in texts)


def compiler_pieces(compiler: GrammarCompiler) -> dict[int, bytes]:
    return compiler._vocabulary.native.text_pieces()


def test_a_choice_shares_what_its_texts_begin_with() -> None:
    assert spec.one_of(["no", "yes", "yesterday", "yes"]) == 'root ::= "no" | "yes" root-1\nroot-1 ::=  | "terday"\n'


def test_the_longest_choice_is_admitted() -> None:
    words = [f'"{number:\\>30}' for number in range(1_000)]
    source = spec.source(spec.OneOf(tuple(words)))
    assert source.max_bytes == spec.MAX_MADE_BYTES > len(source.gbnf)
    growth.check(admit(source.gbnf, max_bytes=source.max_bytes))
    apart = [chr(0x4E00 + number) + "\x01" * 90 for number in range(1_000)]  # every character is escaped
    with pytest.raises(GrammarInvalid, match="the limit is 262,144"):
        spec.one_of(apart)


@pytest.mark.parametrize("texts", [(), ("",), ("a", ""), tuple(str(n) for n in range(1_001)), ("a\0",), ("\ud800",)])
def test_a_choice_that_can_not_be_made_is_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(GrammarInvalid):
        spec.source(spec.OneOf(texts))


def test_a_build_of_the_librarys_is_not_searched_and_everything_else_is() -> None:
    assert not spec.source(spec.Narrowed("sql", TABLES)).is_searched
    assert not spec.source(spec.NarrowedByPrompt("sql", TABLES)).is_searched
    assert spec.source(spec.JsonSchema("{}")).is_searched
    assert spec.source(spec.Gbnf('root ::= "a"')).is_searched


@pytest.mark.parametrize("num_tables", [1, 4, 25])
def test_the_search_finds_nothing_in_builds(num_tables: int) -> None:
    names = [f"t{number}" * (number % 12 + 1) for number in range(num_tables)]
    columns = ", ".join(f"{'ab' * (number % 5 + 1)}_{number} TEXT" for number in range(12))
    tables = "\n".join(f"CREATE TABLE {name} ({columns});" for name in names)
    graph = "\n".join(f"(:L{name} {{name: STRING, age: INTEGER}})-[:R_{name}]->(:L{names[0]})" for name in names)
    for wanted in (spec.Narrowed("sql", tables), spec.Narrowed("cypher", graph)):
        admitted = admit(spec.source(wanted).gbnf, max_bytes=spec.MAX_MADE_BYTES)
        growth.search(admitted.lowered, admitted.root, sorted(["select ", "aaaa", "abababab", "    ", "''"]))


def test_gbnf_is_taken_as_it_is() -> None:
    assert spec.source(spec.Gbnf("x ::= [", "x")) == spec.Source("x ::= [", "x", MAX_BYTES)


TABLES = "CREATE TABLE singers (name TEXT, age INT);"


@pytest.mark.parametrize(
    ("wanted", "good", "bad"),
    [
        (
            spec.JsonSchema(
                '{"type": "object", "properties": {"b": {"type": "integer"}, "a": {"const": 1}}, "required": ["b"]}'
            ),
            '{"b": 7, "a": 1}',
            '{"a": 1, "b": 7}',
        ),
        (spec.Pattern(r"[A-Z]{2}-\d+"), "AB-12", "ab-12"),
        (spec.Narrowed("sql", TABLES), "SELECT name FROM singers;", "SELECT nick FROM singers;"),
        (spec.NarrowedByPrompt("sql", f"Who is 30?\n{TABLES}"), "SELECT age FROM singers;", "SELECT a FROM singers;"),
    ],
)
def test_what_is_made_from_a_request_is_admitted_and_says_just_that(
    wanted: spec.Spec, good: str, bad: str, compiler: GrammarCompiler
) -> None:
    source = spec.source(wanted)
    growth.check(admit(source.gbnf, source.root, source.max_bytes))
    compiled, pieces = compiler.compile(source.gbnf), compiler_pieces(compiler)
    assert is_sentence(compiled.matcher(), spell(pieces, good.encode()))
    assert not is_sentence(compiled.matcher(), spell(pieces, bad.encode()))


@pytest.mark.parametrize(
    "wanted",
    [
        spec.JsonSchema('{"type": "nothing"}'),
        spec.Pattern("(?=a)"),
        spec.Narrowed("sql", "no tables"),
        spec.Narrowed("no-such", TABLES),
        spec.NarrowedByPrompt("no-such", TABLES),
    ],
)
def test_what_no_grammar_can_be_made_of_is_refused(wanted: spec.Spec) -> None:
    with pytest.raises(GrammarError):
        spec.source(wanted)


def test_a_prompt_without_a_schema_is_told_so() -> None:
    with pytest.raises(SchemaTextInvalid, match="the prompt holds none"):
        spec.source(spec.NarrowedByPrompt("sql", "Who is 30?"))
    with pytest.raises(SchemaTextInvalid, match="'date' takes no schema"):
        spec.source(spec.NarrowedByPrompt("date", TABLES))
