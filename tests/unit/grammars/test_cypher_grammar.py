"""Whatever the Cypher grammar lets end, openCypher's ANTLR grammar parses as one query that writes nothing."""

from random import Random

import pytest
from antlr4 import CommonTokenStream, InputStream, ParserRuleContext
from antlr4_cypher import CypherLexer, CypherParser
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import answers, feed, is_sentence, spell, walked

Pieces = dict[int, bytes]

KEYWORDS = sorted({word for name in CypherLexer.literalNames if (word := name.strip("'").lower()).isalpha()})

# Words that Neo4j reserves for variables only, yet ANTLR's grammar takes for no name at all.
ONLY_NEO4J_NAMES = {"call", "yield"}

# Together they put {0}, {1} and {2} wherever the grammar has a variable.
VARIABLES = (
    "MATCH ({0})-[{1}]->({2}:A) WHERE {0}.x = 1 AND {1} <> {2} RETURN {0}, {1}.x, count({2}) AS {1};",
    "MATCH ({0} {{x: 1}})<-[{1}:R]-(:A), ({2}) WHERE ({0} = {1} OR NOT {2}.x > 0) RETURN DISTINCT {0} AS {0};",
    "MATCH ({0}), ({1})--({2}) WHERE NOT {0}.x IS NULL OR {2} IN [1] RETURN max({1}.x), {2} ORDER BY {2} DESC, {0};",
    "MATCH ({0}) RETURN {0} SKIP 1 LIMIT 1;",
    "MATCH ({0}) WHERE {0}.x CONTAINS 'x' RETURN avg(DISTINCT {0}), {1} ORDER BY sum({0}.x) ASC, {2} SKIP 2;",
)
# The same for a label, a relationship and a property.
NAMES = "MATCH (a:{0} {{{0}: 1}})-[:{0}|{0} {{{0}: 'x'}}]->(:{0}) WHERE a.{0} = 1 RETURN a.{0}, count(a.{0});"


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("cypher"))


class Faults(list[str]):
    """What the lexer and the parser report, as ANTLR's listener."""

    def syntaxError(self, _source: object, _symbol: object, line: int, column: int, message: str, _: object) -> None:
        self.append(f"{line}:{column} {message}")

    def _ignore(self, *_: object) -> None:
        """An ambiguity is no fault."""

    reportAmbiguity = reportAttemptingFullContext = reportContextSensitivity = _ignore


def rules_of(cypher: str) -> list[str]:
    """The names of the parser's rules that the text takes, from the script on; asserts that it finds no fault."""
    faults = Faults()
    lexer = CypherLexer(InputStream(cypher))
    parser = CypherParser(CommonTokenStream(lexer))
    for recognizer in (lexer, parser):
        recognizer.removeErrorListeners()
        recognizer.addErrorListener(faults)
    nodes = [parser.script()]
    assert not faults, (cypher, faults)
    for node in nodes:
        nodes += [child for child in node.getChildren() if isinstance(child, ParserRuleContext)]
    return [parser.ruleNames[node.getRuleIndex()] for node in nodes]


def assert_reads(cypher: str) -> None:
    rules = rules_of(cypher)
    assert rules.count("returnSt") == 1, cypher
    forbidden = {"updatingStatement", "standaloneCall", "queryCallSt", "unionSt", "subqueryExist"}
    assert not forbidden & set(rules), cypher


def test_the_parser_tells_reading_from_writing() -> None:
    assert "updatingStatement" in rules_of("MATCH (a) DELETE a;")
    assert "queryCallSt" in rules_of("CALL db.labels() YIELD label RETURN label;")
    with pytest.raises(AssertionError):
        rules_of("MATCH (a) RETURN a; MATCH (b) RETURN b;")
    with pytest.raises(AssertionError):
        rules_of("MATCH (a) RETURN 'x;")


def test_every_answer_of_the_expert_is_a_sentence(grammar: CompiledGrammar, pieces: Pieces) -> None:
    for cypher in answers("cypher"):
        assert is_sentence(grammar.matcher(), spell(pieces, cypher.encode())), cypher


@pytest.mark.parametrize(
    "cypher",
    [
        "MATCH (a:Person {name: 'Porto', age: 30})-[:ACTED_IN]->(b:Movie) RETURN b.title;",
        "MATCH (a)<-[r:LIKES|KNOWS {since: 1999}]-(:B:C {x: true})-->()--(), ({y: 0.5}) RETURN a.x AS x, r;",
        "MATCH (a:A)-[:R*1..3]->(b) WHERE (a.x >= 1 OR NOT b.y IS NULL) AND a.z <> b.z RETURN count(*);",
        "MATCH (a) WHERE a.x STARTS WITH 'São' OR a.y IN ['x', -1.5] AND NOT (a.z = 'it\\'s' AND a.z < 2) RETURN a;",
        "MATCH (a) RETURN DISTINCT a.x, avg(a.y) AS mean, collect(DISTINCT a) ORDER BY mean DESC, a.x SKIP 10 LIMIT 5;",
        "MATCH (a:A) OPTIONAL MATCH (a)-[:R]->(b) WHERE b.x = 1 RETURN a, count(DISTINCT b) AS n ORDER BY n;",
        "MATCH (a) WITH a, count(*) AS n ORDER BY n DESC LIMIT 3 WHERE n > 2 MATCH (a)--(b) RETURN a.x, collect(b.x);",
        "MATCH (a) WITH DISTINCT a.x AS x, size(a.y) AS s RETURN toLower(x), coalesce(s, 0) ORDER BY toUpper(x);",
        "UNWIND ['x', 'y'] AS v MATCH (a {x: 'z'}) WHERE a.y = v AND type(a) <> 'R' RETURN v, labels(a), id(a);",
        "MATCH (a) UNWIND a.tags AS tag RETURN DISTINCT tag SKIP 1;",
        "MATCH (a) WHERE a.x IN a.tags AND toLower(a.y) CONTAINS 'z' AND a.n < b.n RETURN round(a.n);",
        "MATCH (a {x: ''}) WHERE a.x CONTAINS '// 日本 🙂; DELETE' RETURN min(a.x), max(a.x), sum(a.x);",
    ],
)
def test_the_wider_forms_are_sentences_that_end_by_themselves(
    grammar: CompiledGrammar, pieces: Pieces, cypher: str
) -> None:
    matcher = grammar.matcher()
    assert feed(matcher, spell(pieces, cypher.encode()))
    assert matcher.must_stop
    assert_reads(cypher)


@pytest.mark.parametrize(
    "cypher",
    [
        "CREATE (a:A);",
        "MERGE (a:A) RETURN a;",
        "MATCH (a) DELETE a;",
        "MATCH (a) DETACH DELETE a;",
        "MATCH (a) SET a.x = 1 RETURN a;",
        "MATCH (a) REMOVE a.x RETURN a;",
        "MATCH (a) RETURN a; MATCH (a) DELETE a;",
        "MATCH (a) RETURN a UNION MATCH (b) RETURN b;",
        "MATCH (a) WITH a DELETE a;",
        "CALL db.labels();",
        "MATCH (a) CALL apoc.create.node([], {}) YIELD node RETURN a;",
        "LOAD CSV FROM 'file:///etc/passwd' AS line RETURN line;",
        "MATCH (a) FOREACH (x IN [1] | SET a.x = x);",
        "MATCH (a) WHERE a.x = 'y'}) DELETE a //' RETURN a;",
        "MATCH (a) WHERE a.x = 'it''s' RETURN a;",
        "MATCH (a) WHERE a.x = 'it's' RETURN a;",
        "MATCH (a) WHERE a.x = '\\' RETURN a;",
        "MATCH (a) WHERE a.x = '\\\\' RETURN a;",
        "MATCH (a) WHERE a.x = '\\u0027 DELETE a //' RETURN a;",
        "MATCH (a) WHERE a.x = '\\\\u0027' RETURN a;",
        "MATCH (a) WHERE a.x = 'x\ny' RETURN a;",
        'MATCH (a) WHERE a.x = "x" RETURN a;',
        "MATCH (a) WHERE apoc.x(a) RETURN a;",
        "MATCH (a) WITH a.x MATCH (b) RETURN b;",
        "MATCH (a) WITH a SET a.x = 1 RETURN a;",
        "UNWIND [1] AS x CREATE (a {x: 1}) RETURN a;",
        "UNWIND [1] AS x WHERE x = 1 RETURN x;",
        "WITH 1 AS x RETURN x;",
        "MATCH (a:`A`) RETURN a;",
        "MATCH (a) RETURN a; ",
        "MATCH (a) RETURN a;;",
        "OPTIONAL MATCH (a) WITH a",
        "RETURN 1;",
        "MATCH (a)  RETURN a;",
        "match (a) return a;",
        "MATCH (a) RETURN *;",
        "MATCH (a)<-->(b) RETURN a;",
        "MATCH (a)-[*]->(b) RETURN a;",
        "MATCH (a) RETURN a // x;",
        "MATCH (1a) RETURN 1a;",
        "MATCH (a) RETURN a LIMIT 0;",
        "MATCH (a) WHERE a.x = 007 RETURN a;",
        "MATCH (a) WHERE a.x = '" + "x" * 65 + "' RETURN a;",
        "MATCH (a:" + "x" * 33 + ") RETURN a;",
        "MATCH (a) RETURN a" + ", a" * 8 + ";",
        "MATCH (a)" + "-->()" * 4 + " RETURN a;",
    ],
)
def test_anything_else_is_refused(grammar: CompiledGrammar, pieces: Pieces, cypher: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, cypher.encode()))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    prefix=st.sampled_from(
        [
            "",
            "MATCH (a)-[",
            "MATCH (a {x: ",
            "UNWIND [",
            "MATCH (a) WITH ",
            "MATCH (a) WHERE ",
            "MATCH (a) WHERE (a.x",
            "MATCH (a) RETURN ",
        ]
    ),
)
def test_a_random_walk_ends_in_a_query_that_reads(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    assert_reads(walked(grammar, vocabulary, pieces, seed, prefix, closers=b"'};]) R"))


def test_every_keyword_let_through_is_harmless_as_a_variable(grammar: CompiledGrammar, pieces: Pieces) -> None:
    # The functions' names too, which the parser knows as names only.
    words = [*KEYWORDS, "avg", "sum", "min", "max", "collect"]
    free = [w for w in words if is_sentence(grammar.matcher(), spell(pieces, f"MATCH (a) RETURN {w};".encode()))]
    assert set(words) - set(free) == set(KEYWORDS) & library.reserved("cypher")
    assert {"count", "any", "sum"} < set(free)
    for word in free:
        for sentence in VARIABLES:
            cypher = sentence.format(word, word, word)
            assert is_sentence(grammar.matcher(), spell(pieces, cypher.encode())), cypher
            assert_reads(cypher)


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_keyword_names_a_label_a_relationship_or_a_property(
    grammar: CompiledGrammar, pieces: Pieces, word: str
) -> None:
    for name in (word, word.upper()):
        assert is_sentence(grammar.matcher(), spell(pieces, NAMES.format(name).encode()))
        if word not in ONLY_NEO4J_NAMES:
            assert_reads(NAMES.format(name))


@pytest.mark.parametrize("sentence", VARIABLES)
def test_a_reserved_word_is_no_variable(grammar: CompiledGrammar, pieces: Pieces, sentence: str) -> None:
    reserved = Random(3).sample(sorted(library.reserved("cypher")), 5)
    for word in ("all", "null", "return", *reserved):
        assert is_sentence(grammar.matcher(), spell(pieces, sentence.format("a", f"{word}s", "c").encode()))
        assert not is_sentence(grammar.matcher(), spell(pieces, sentence.format(word, word, word).encode()))
