"""A grammar made from a graph's description knows its labels, relationships in their direction, and properties."""

from contextlib import suppress
from random import Random
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.errors import SchemaTextInvalid
from grammars.graph_schema import Relationship, graph_of, lines_in
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.test_cypher_grammar import assert_reads
from tests.unit.grammars.walks import is_sentence, spell, walked
from training.tasks import TASKS
from training.words import Words

Pieces = dict[int, bytes]

SCHEMA = """(:Person {name: STRING, age: INTEGER})-[:ACTED_IN {roles: LIST}]->(:Movie {title: STRING})
(:Person)-[:KNOWS]->(:Person)
(:`Film Studio` {`since when`: DATE}); (:Lonely)"""
LISTING = """Node properties:
- **Movie**
  - `title`: STRING Example: "Toy Story"
  - `year`: INTEGER Min: 1902, Max: 2016
- **Person**
Relationship properties:
ACTED_IN {roles: LIST, `pay`: FLOAT}
The relationships:
(:Person)-[:ACTED_IN]->(:Movie)"""


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.build("cypher", SCHEMA))


@pytest.mark.parametrize(
    "cypher",
    [
        "MATCH (a:Person {name: 'x', age: 3})-[:ACTED_IN]->(b:Movie) RETURN b.title;",
        "MATCH (a:Person)-[:KNOWS]->(b)-[r:ACTED_IN {roles: 'x'}]->(m {title: 'y'}) RETURN a.name, m",
        "MATCH (a:Movie)<-[:ACTED_IN]-(b)-[:KNOWS]-(:Person) WHERE b.age > 3 RETURN count(b) AS n ORDER BY n",
        "MATCH (a)<-[:KNOWS]-() MATCH (a)-[:ACTED_IN]-(b) RETURN a, b",
        "MATCH (s:`Film Studio`), (l:Lonely) RETURN s.`since when`, l",
    ],
)
def test_queries_over_the_graph_are_sentences(grammar: CompiledGrammar, pieces: Pieces, cypher: str) -> None:
    assert is_sentence(grammar.matcher(), spell(pieces, cypher.encode()))
    assert_reads(cypher)


@pytest.mark.parametrize(
    "cypher",
    [
        "MATCH (a:Actor) RETURN a;",
        "MATCH (a:person) RETURN a;",
        "MATCH (a:Person) RETURN a.year;",
        "MATCH (a:Movie {age: 3}) RETURN a;",
        "MATCH (a:Person)-[:LIKES]->(b) RETURN b;",
        "MATCH (a:Movie)-[:ACTED_IN]->(b) RETURN b;",
        "MATCH (a:Person)<-[:ACTED_IN]-(b) RETURN b;",
        "MATCH (a:Movie)-[:KNOWS]-(b) RETURN b;",
        "MATCH (a)-[:ACTED_IN]->(b:Person) RETURN b;",
        "MATCH (a:Person)-[:KNOWS]->(b:Movie) RETURN b;",
        "MATCH (a:Person)-[:KNOWS]->(b)-[:KNOWS]->(c)<-[:ACTED_IN]-(d) RETURN d;",
        "MATCH (a:Lonely)--(b) RETURN b;",
        "MATCH (a:Person)-[:KNOWS {roles: 1}]->(b) RETURN b;",
        "MATCH (a:Person)" + "-[:KNOWS]->()" * 4 + " RETURN a;",
        "MATCH (a:`Person`) RETURN a;",
    ],
)
def test_what_is_not_in_the_graph_is_refused(grammar: CompiledGrammar, pieces: Pieces, cypher: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, cypher.encode()))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    prefix=st.sampled_from(["", "MATCH (a)-[:", "MATCH (a:Person)-[", "MATCH (:Person)-[:ACTED_IN]-", "MATCH (:`"]),
)
def test_a_random_walk_ends_in_a_query_that_reads(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    assert_reads(walked(grammar, vocabulary, pieces, seed, prefix, closers=b"'};]) R"))


def test_every_answer_of_the_expert_is_a_sentence_over_the_graph_of_its_prompt(
    compiler: GrammarCompiler, pieces: Pieces
) -> None:
    for held_out in (False, True):
        words = Words(Random(3), ("ab", "cor", "ter"), held_out)
        for _ in range(40):
            example = TASKS["cypher"](words)
            schema = library.find_schema("cypher", example.prompt)
            assert schema is not None, example.prompt
            matcher = compiler.compile(library.build("cypher", schema)).matcher()
            assert is_sentence(matcher, spell(pieces, example.answer.encode())), example


def test_patterns_give_labels_relationships_and_properties() -> None:
    graph = graph_of(SCHEMA)
    assert {label: list(of) for label, of in graph.labels.items()} == {
        "Person": ["name", "age"], "Movie": ["title"], "Film Studio": ["since when"], "Lonely": [],
    }  # fmt: skip
    assert list(graph.relationships) == [
        Relationship("Person", "ACTED_IN", "Movie"),
        Relationship("Person", "KNOWS", "Person"),
    ]
    assert list(graph.types["ACTED_IN"]) == ["roles"]


def test_an_arrow_to_the_left_leads_to_the_left_and_none_leads_both_ways() -> None:
    graph = graph_of("(:A)<-[:R]-(:B)-[:S]-(:C)")
    assert set(graph.relationships) == {
        Relationship("B", "R", "A"), Relationship("B", "S", "C"), Relationship("C", "S", "B"),
    }  # fmt: skip


def test_the_listing_of_neo4js_tools_is_read() -> None:
    graph = graph_of(LISTING)
    assert list(graph.labels["Movie"]) == ["title", "year"] and list(graph.types["ACTED_IN"]) == ["roles", "pay"]
    assert list(graph.relationships) == [Relationship("Person", "ACTED_IN", "Movie")]


def test_a_prompts_lines_are_found_and_its_question_is_not() -> None:
    question = "Which (:Person) acted in (:Movie)? (a:b)"
    assert lines_in(f"{LISTING}\nCypher: {question}") == LISTING
    assert lines_in(question) is None
    assert lines_in("Node properties:\nRelationship properties:") is None


@pytest.mark.parametrize(
    ("schema", "line", "reason"),
    [
        ("", 1, "there is no label"),
        ("(:A {x})\n\n(:A)-[:R]->", 3, r"'\(:A\)-\[:R\]->' is no pattern"),
        ("(:A)\nhello", 2, "'hello' is no pattern"),
        ("(:A)-[R]->(:B)", 1, "is no pattern"),
        ("(:A)\n(:" + "x" * 65 + ")", 2, "more than 64 characters"),
        ("\n".join(f"(:L{i})" for i in range(65)), 65, "more than 64 labels"),
        ("(:A)\n" + "\n".join(f"(:A)-[:R{i}]->(:A)" for i in range(257)), 258, "more than 256 relationships"),
        ("(:A {" + ", ".join(f"p{i}" for i in range(1001)) + "})", 1, "more than 1000 properties"),
        ("x" * 65_537, 1, "65537 characters; the limit is 65536"),
    ],
)
def test_what_describes_no_graph_is_refused_by_its_line(schema: str, line: int, reason: str) -> None:
    with pytest.raises(SchemaTextInvalid, match=reason) as caught:
        library.build("cypher", schema)
    assert caught.value.line == line


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(
        st.sampled_from([*"()[]{}:-><`,;.\n ", "(:A", "-[:R]->", "{x: Y}", "Node properties:"]), max_size=25
    ).map("".join)
)
def test_any_text_has_lines_that_are_read_or_none(text: str) -> None:
    found = lines_in(text)
    assert found is None or graph_of(found).labels


@pytest.mark.parametrize(
    "text",
    [
        "(:A)" + " " * 60_000 + "-",
        "(" + " " * 60_000,
        "(:A " + " " * 60_000,
        "(:A)" * 16_000,
        "(:A)" + "-[:R]->(:A)" * 5900,
        "(:A {" + "x," * 30_000 + "})",
        "Node properties:\n- " + "*" * 60_000,
        "Node properties:\n" + "-" * 60_000,
        "(:A)\n" * 13_000,
        "(:A {" + ",".join(f"p{i}" for i in range(990)) + "})\n" + "(:A)\n" * 11_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = process_time()
    with suppress(SchemaTextInvalid):
        library.build("cypher", text)
    lines_in(text)
    assert process_time() - started < 5  # a tenth of that, where nothing else runs
