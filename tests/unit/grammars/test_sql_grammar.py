"""Whatever the SQL grammar lets end, sqlglot parses as one query in two dialects, and SQLite finds no fault in it."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import feed, is_sentence, spell, text_of, walk

Pieces = dict[int, bytes]

# https://www.sqlite.org/lang_keywords.html
SQLITE_KEYWORDS = """abort action add after all alter always analyze and as asc attach autoincrement before
begin between by cascade case cast check collate column commit conflict constraint create cross current
current_date current_time current_timestamp database default deferrable deferred delete desc detach distinct
do drop each else end escape except exclude exclusive exists explain fail filter first following for foreign
from full generated glob group groups having if ignore immediate in index indexed initially inner insert
instead intersect into is isnull join key last left like limit match materialized natural no not nothing
notnull null nulls of offset on or order others outer over partition plan pragma preceding primary query
raise range recursive references regexp reindex release rename replace restrict returning right rollback row
rows savepoint select set table temp temporary then ties to transaction trigger unbounded union unique
update using vacuum values view virtual when where window with without""".split()

# Together they put {0}, {1} and {2} wherever the grammar has a name.
SENTENCES = (
    "SELECT DISTINCT {0}, {1}.{2}, AVG({0}), COUNT(DISTINCT {1}) FROM {2} WHERE {0} = 1 OR {1}.{2} IS NULL;",
    "SELECT {0} FROM {0} JOIN {1} ON {0}.{2} = {1}.{0} WHERE {2} IN (1, 'y') GROUP BY {0}, {1};",
    "SELECT MAX({0}.{1}), {2} FROM {1} GROUP BY {2}, {0} HAVING SUM({0}) >= 2 ORDER BY {1} DESC, MIN({2});",
    "SELECT {0}.{1} FROM {1} WHERE {0} NOT LIKE 'a%' AND {1} BETWEEN -1 AND 2.5 AND {2} IS NOT NULL;",
    "SELECT * FROM {0} ORDER BY {0}, COUNT(*) LIMIT 1;",
    "SELECT * FROM {0} LIMIT 10;",
    "SELECT {0} FROM {1} ORDER BY {2} ASC, {0} DESC;",
    "SELECT COUNT(*) FROM {0} JOIN {0} ON {0}.{0} = {0}.{0};",
    "SELECT {0} AS {1} FROM {2} AS {0} LEFT JOIN (SELECT {1} FROM {2}) AS {1} ON {0}.{1} = {1}.{2} WHERE {1} = {2};",
    "SELECT CASE WHEN {0} > 1 THEN {1} ELSE {2} END, ROUND({0}, 1), {0} / {1} FROM {2} GROUP BY {0} || {1};",
    "SELECT CAST({0} AS REAL) FROM {1} WHERE LOWER({2}) LIKE 'a' AND {0} - {1} > ABS({2}) UNION SELECT {0} FROM {2};",
)


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("sql"))


@pytest.fixture(scope="module")
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        yield connection


def assert_parses(database: sqlite3.Connection, sql: str) -> None:
    for dialect in ("sqlite", "postgres"):
        (tree,) = sqlglot.parse(sql, read=dialect)
        assert isinstance(tree, exp.Query), (dialect, sql)
        assert not tree.find(exp.DML, exp.DDL, exp.Command), (dialect, sql)
    # Past SQLite's parser, and into an empty database.
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name, AVG(age) FROM singers WHERE city = 'Porto' AND age > 30 GROUP BY city ORDER BY age DESC LIMIT 3;",
        "SELECT DISTINCT city FROM t;",
        "SELECT COUNT(*) FROM t WHERE age > 30;",
        "SELECT MIN(a), MAX(a), AVG(a), SUM(a), COUNT(DISTINCT a) FROM t;",
        "SELECT name FROM t ORDER BY age ASC LIMIT 10;",
        "SELECT city, COUNT(*) FROM t GROUP BY city HAVING COUNT(*) >= 5;",
        "SELECT a.name FROM a JOIN b ON a.id = b.a_id;",
        "SELECT a.name, b.x FROM a JOIN b ON a.id = b.a_id WHERE b.x != 'it''s' ORDER BY a.name;",
        "SELECT * FROM t WHERE a IN ('x', 2) OR b IS NOT NULL AND c BETWEEN 1 AND 2 AND d NOT LIKE 'São%';",
        "SELECT * FROM t WHERE a = -12.50;",
        "SELECT position, rank, format, level, label, likes FROM orders ORDER BY code;",
        "SELECT a.name AS n, COUNT(b.id) AS m FROM a LEFT JOIN b ON a.id = b.a_id GROUP BY a.name ORDER BY m DESC;",
        "SELECT a.x FROM t AS a INNER JOIN t AS b ON a.id = b.up AND a.y = b.y JOIN c ON b.x = c.x LIMIT 5 OFFSET 9;",
        "SELECT a FROM t WHERE age > (SELECT AVG(age) FROM t) AND NOT (a = 1 OR b IN (SELECT b FROM u WHERE c = 2));",
        "SELECT name FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id) OR NOT EXISTS (SELECT * FROM v);",
        "SELECT q.n FROM (SELECT city, COUNT(*) AS n FROM t GROUP BY city) AS q JOIN u ON q.city = u.city;",
        "SELECT a FROM t WHERE b IN (SELECT c FROM u WHERE d = (SELECT MAX(d) FROM v WHERE e IN (1, 2)));",
        "SELECT a FROM t UNION SELECT b FROM u UNION ALL SELECT c FROM v INTERSECT SELECT d FROM w ORDER BY 1 LIMIT 2;",
        "SELECT CASE WHEN a > 1 AND b IS NULL THEN 'x' WHEN c = 2 THEN d ELSE NULL END AS kind FROM t;",
        "SELECT CAST(SUM(CASE WHEN a = 1 THEN 1 ELSE 0 END) AS REAL) / COUNT(*) AS s, ROUND(AVG(a) * 100, 2) FROM t;",
        "SELECT LOWER(a) || ', ' || UPPER(b), COALESCE(SUM(c), 0), SUBSTR(a, 1, 3), REPLACE(a, 'x', '') FROM t;",
        "SELECT (a + b) * 2, a - b % 3 FROM t WHERE a * (b + 1) >= c / 2 AND LOWER(d) LIKE LOWER('%x%');",
        'SELECT "Full Name", t."desc" FROM "Order Details" AS t WHERE "a-b" = TRUE ORDER BY "a-b" DESC NULLS LAST;',
        "SELECT city FROM t GROUP BY 1 HAVING SUM(a) / COUNT(*) > 2 AND MAX(b) IS NOT NULL ORDER BY COUNT(*) DESC;",
    ],
)
def test_selects_of_every_form_are_sentences(
    grammar: CompiledGrammar, pieces: Pieces, database: sqlite3.Connection, sql: str
) -> None:
    matcher = grammar.matcher()
    assert feed(matcher, spell(pieces, sql.encode()))
    assert matcher.must_stop
    assert_parses(database, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM t;",
        "DROP TABLE t;",
        "SELECT a FROM t; ",
        "SELECT a FROM t;;",
        "SELECT a FROM t; DROP TABLE t;",
        "SELECT a FROM t -- x;",
        "SELECT a  FROM t;",
        "select a from t;",
        "SELECT FROM t;",
        "SELECT a FROM t WHERE a = 'x;",
        "SELECT a FROM t WHERE a = 'it's';",
        "SELECT a FROM t WHERE a = '" + "x" * 65 + "';",
        "SELECT a FROM t WHERE a = 'x\ny';",
        "SELECT a FROM t WHERE a = 0123;",
        "SELECT a FROM t LIMIT 0;",
        "SELECT a FROM (SELECT b FROM t);",
        "SELECT load_extension('x') FROM t;",
        "SELECT 1a FROM t;",
        "SELECT _a FROM t;",
        "SELECT a FROM t WHERE COUNT(a) > 1;",
        "SELECT SUM(COUNT(a)) FROM t;",
        "SELECT a FROM t; DELETE FROM t;",
        "PRAGMA table_info(t);",
        "WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x;",
        "SELECT a FROM t FOR UPDATE;",
        "SELECT a INTO u FROM t;",
        "SELECT a FROM t WHERE a IN (SELECT b FROM u WHERE b IN (SELECT c FROM v WHERE c IN (SELECT d FROM w)));",
        "INSERT INTO t SELECT a FROM u;",
        "SELECT pg_sleep(9) FROM t;",
        'SELECT "a"" FROM t;',
        "SELECT user FROM t;",
        "SELECT a FROM t ORDER BY a UNION SELECT b FROM u;",
    ],
)
def test_anything_else_is_refused(grammar: CompiledGrammar, pieces: Pieces, sql: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, sql.encode()))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    prefix=st.sampled_from(
        [
            "",
            "SELECT a FROM t",
            "SELECT a FROM t JOIN ",
            "SELECT * FROM t WHERE a",
            "SELECT a FROM t GROUP BY a ORDER BY ",
            "SELECT a FROM t GROUP BY a HAVING ",
            "SELECT a FROM t WHERE a IN (SELECT ",
            "SELECT a FROM (SELECT b FROM u ",
            "SELECT CAST(",
            "SELECT CASE WHEN a ",
            "SELECT ROUND(",
            "SELECT a FROM t UNION ",
            "SELECT a FROM t WHERE NOT EXISTS (SELECT a FROM t WHERE ",
        ]
    ),
)
def test_a_random_walk_ends_in_a_select(
    grammar: CompiledGrammar,
    vocabulary: Vocabulary,
    pieces: Pieces,
    database: sqlite3.Connection,
    seed: int,
    prefix: str,
) -> None:
    matcher = grammar.matcher()
    started = spell(pieces, prefix.encode())
    assert feed(matcher, started)
    closers = spell(pieces, b'";) FE', longest=1)
    sql = text_of(pieces, started + walk(matcher, vocabulary, Random(seed), closers, budget=50))
    matcher.close()
    assert_parses(database, sql)


def words_known_to_parsers() -> list[str]:
    """Every word that sqlglot's own sources or SQLite's list of keywords give a meaning to."""
    folder = Path(sqlglot.__file__).parent
    sources = [
        folder / "parser.py",
        folder / "tokens.py",
        folder / "generator.py",
        *folder.glob("dialects/*lite.py"),
    ]
    sources += [*folder.glob("parsers/*lite.py"), *folder.glob("expressions/*.py")]
    quoted = {
        literal for file in sources if file.exists() for literal in re.findall(r'"([A-Za-z_ ]+)"', file.read_text())
    }
    quoted |= set(sqlglot.tokens.Tokenizer.KEYWORDS) | set(sqlglot.dialects.SQLite.Tokenizer.KEYWORDS)
    quoted |= set(sqlglot.parser.Parser.FUNCTIONS)
    words = {word.lower() for text in quoted for word in text.split()} | set(SQLITE_KEYWORDS)
    return sorted(word for word in words if re.fullmatch("[a-z][a-z0-9_]*", word))


@pytest.fixture(scope="module")
def free_words(grammar: CompiledGrammar, pieces: Pieces) -> list[str]:
    """Words that mean something to a parser and that the grammar lets through as names."""
    known = words_known_to_parsers()
    assert len(known) > 1000
    return [w for w in known if is_sentence(grammar.matcher(), spell(pieces, f"SELECT {w} FROM t;".encode()))]


def test_the_sentences_with_gaps_are_those_of_the_grammar(grammar: CompiledGrammar, pieces: Pieces) -> None:
    for sentence in SENTENCES:
        sql = sentence.format("alpha", "beta", "gamma")
        assert is_sentence(grammar.matcher(), spell(pieces, sql.encode())), sql


def test_every_word_let_through_is_harmless_wherever_a_name_may_stand(
    free_words: list[str], database: sqlite3.Connection
) -> None:
    random = Random(11)
    for word in free_words:
        for sentence in SENTENCES:
            with pytest.raises(sqlite3.OperationalError, match="no such table"):
                database.execute(sentence.format(word, word, word))
        assert_parses(database, random.choice(SENTENCES).format(word, word, word))
    # Words beside one another, too: each sentence takes three at random.
    for _ in range(300):
        assert_parses(database, random.choice(SENTENCES).format(*random.sample(free_words, 3)))


@pytest.mark.slow
def test_every_word_in_every_sentence_parses_in_both_dialects(
    free_words: list[str], database: sqlite3.Connection
) -> None:
    for word in free_words:
        for sentence in SENTENCES:
            assert_parses(database, sentence.format(word, word, word))


def test_a_word_let_through_is_read_as_the_column_it_names(free_words: list[str]) -> None:
    for word in free_words:
        tree = sqlglot.parse_one(f"SELECT {word} FROM t;", read="sqlite")
        assert [column.name for column in tree.find_all(exp.Column)] == [word]


@pytest.mark.parametrize("word", ["select", "from", "null", "case", "cross", "current_date", "union", "not", "index"])
@pytest.mark.parametrize("sentence", SENTENCES[:4])
def test_a_reserved_word_is_no_name(grammar: CompiledGrammar, pieces: Pieces, word: str, sentence: str) -> None:
    for gap in range(3):
        names = ["a", "b", "c"]
        assert is_sentence(grammar.matcher(), spell(pieces, sentence.format(*names).encode()))
        names[gap] = word
        assert not is_sentence(grammar.matcher(), spell(pieces, sentence.format(*names).encode()))
        names[gap] = f"{word}s"
        assert is_sentence(grammar.matcher(), spell(pieces, sentence.format(*names).encode()))


def test_few_common_column_names_are_lost(grammar: CompiledGrammar, pieces: Pieces) -> None:
    common = "id name date year month time type status count rank level key value text number code"
    for word in [
        *common.split(),
        *"first last start row rows language format position filter plan users".split(),
    ]:
        assert is_sentence(grammar.matcher(), spell(pieces, f"SELECT {word} FROM t;".encode())), word
