"""A grammar made from CREATE TABLE lines knows those tables and columns and no others."""

import sqlite3
from contextlib import closing
from random import Random

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.create_table import Name
from grammars.errors import SchemaTextInvalid
from grammars.sql_schema import RESULTS, spelled
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import is_sentence, spell, walked
from training.tasks import TASKS
from training.words import Words

Pieces = dict[int, bytes]

SCHEMA = """CREATE TABLE Singer (id INT PRIMARY KEY, "Full Name" TEXT, age INT, "user" TEXT, total INT);
CREATE TABLE concert (singer_id INT REFERENCES Singer(id), year INT, "desc" TEXT, singer_age INT);
CREATE TABLE singer_2 (x INT);"""
TABLES = {
    "Singer": {"id", "Full Name", "age", "user", "total"},
    "concert": {"singer_id", "year", "desc", "singer_age"},
    "singer_2": {"x"},
}


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.build("sql", SCHEMA))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id FROM Singer;",
        'SELECT "Full Name", "user", age FROM Singer WHERE age > 30 ORDER BY "Full Name" DESC LIMIT 3',
        'SELECT Singer."Full Name", COUNT(*) AS lowest FROM Singer JOIN concert ON Singer.id = concert.singer_id '
        "GROUP BY Singer.id ORDER BY lowest DESC;",
        "SELECT Singer_3.age FROM Singer JOIN Singer AS Singer_3 ON Singer.id = Singer_3.age;",
        "SELECT part_1.value_1 FROM (SELECT year AS value_1 FROM concert) AS part_1 WHERE part_1.value_1 > 3;",
        "SELECT x FROM singer_2 WHERE x IN (SELECT singer_id FROM concert WHERE year = 2) UNION SELECT id FROM Singer;",
    ],
)
def test_queries_over_the_schema_are_sentences_that_sqlite_prepares(
    grammar: CompiledGrammar, pieces: Pieces, sql: str
) -> None:
    assert is_sentence(grammar.matcher(), spell(pieces, sql.encode()))
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript(SCHEMA)
        database.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name FROM Singer;",
        "SELECT id FROM singers;",
        "SELECT id FROM singer;",
        "SELECT Singer.year FROM Singer;",
        "SELECT concert.id FROM concert;",
        "SELECT Singer_3.year FROM Singer AS Singer_3;",
        "SELECT id FROM Singer AS s;",
        "SELECT id AS identity FROM Singer;",
        'SELECT "desc " FROM concert;',
        "SELECT desc FROM concert;",
        "SELECT Full Name FROM Singer;",
        "SELECT id FROM (SELECT id FROM Singer) AS q;",
        "SELECT i FROM Singer;",
    ],
)
def test_other_names_are_refused(grammar: CompiledGrammar, pieces: Pieces, sql: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, sql.encode()))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    prefix=st.sampled_from(
        ["", "SELECT Singer.", "SELECT * FROM Singer JOIN ", "SELECT id FROM Singer WHERE ", 'SELECT "']
    ),
)
def test_a_random_walk_names_only_what_is_in_the_schema(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    sql = walked(grammar, vocabulary, pieces, seed, prefix, closers=b'";) FE')
    tree = sqlglot.parse_one(sql, read="sqlite")
    known = set.union(*TABLES.values()) | set(RESULTS) | {f"value_{i}" for i in range(1, 10)}
    assert {table.name for table in tree.find_all(exp.Table)} <= set(TABLES)
    for column in tree.find_all(exp.Column):
        owner = column.table.removesuffix("_3").replace("concert_2", "concert").replace("singer_2_2", "singer_2")
        assert column.name in (TABLES.get(owner, known) if not owner.startswith("part_") else known), sql


def test_every_answer_of_the_expert_is_a_sentence_over_the_schema_of_its_prompt(
    compiler: GrammarCompiler, pieces: Pieces
) -> None:
    for held_out in (False, True):
        words = Words(Random(3), ("ab", "cor", "ter"), held_out)
        for _ in range(60):
            example = TASKS["sql"](words)
            schema = library.find_schema("sql", example.prompt)
            assert schema is not None, example.prompt
            matcher = compiler.compile(library.build("sql", schema)).matcher()
            assert is_sentence(matcher, spell(pieces, example.answer.encode())), example


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (Name("age", False), "age"),
        (Name("Age", False), "Age"),
        (Name("Age", True), '"Age"'),
        (Name("age", True), "age"),
        (Name("order", True), '"order"'),
        (Name("USER", False), '"user"'),
        (Name('a"b', True), '"a""b"'),
        (Name("a b", True), '"a b"'),
        (Name("a$b", False), '"a$b"'),
    ],
)
def test_a_name_is_quoted_where_it_has_to_be(name: Name, expected: str) -> None:
    assert spelled(name, library.reserved("sql")) == expected


def test_the_largest_schema_compiles(compiler: GrammarCompiler) -> None:
    columns = ", ".join(f"column_of_length_{i} INT" for i in range(15))
    gbnf = library.build("sql", "\n".join(f"CREATE TABLE table_{i} ({columns});" for i in range(64)))
    assert compiler.compile(gbnf).matcher().mask().any()


def test_names_that_grow_letter_by_letter_do_not_nest_without_end(compiler: GrammarCompiler, pieces: Pieces) -> None:
    columns = ["a" * n for n in range(1, 61)]
    gbnf = library.build("sql", f"CREATE TABLE t ({', '.join(columns)});")
    for column in columns[::10]:
        assert is_sentence(compiler.compile(gbnf).matcher(), spell(pieces, f"SELECT {column} FROM t;".encode()))
    assert not is_sentence(compiler.compile(gbnf).matcher(), spell(pieces, f"SELECT {'a' * 61} FROM t;".encode()))


def test_names_that_the_grammar_would_choose_are_left_to_the_schema(compiler: GrammarCompiler, pieces: Pieces) -> None:
    columns = [*RESULTS, *(f"{stem}_{i}" for stem in ("part", "value") for i in (1, 3, 4, 5, 6, 7, 8, 9))]
    schema = f"CREATE TABLE part ({', '.join(columns)}); CREATE TABLE value (x INT);"
    compiled = compiler.compile(library.build("sql", schema))
    for sql, is_one in {
        "SELECT part_2.total FROM part AS part_2;": True,
        "SELECT part_2.x FROM part AS part_2;": False,
        "SELECT value_2.x FROM value AS value_2;": True,
        "SELECT part_10.value_18 FROM (SELECT x AS value_18 FROM value) AS part_10;": True,
        "SELECT x FROM (SELECT x FROM value) AS part_2;": False,
        "SELECT x AS total FROM value;": False,
        "SELECT x AS value_2 FROM value;": False,
    }.items():
        assert is_sentence(compiled.matcher(), spell(pieces, sql.encode())) is is_one, sql


def test_a_fault_in_the_schema_names_its_line() -> None:
    with pytest.raises(SchemaTextInvalid, match="line 2: table 'b' has no columns"):
        library.build("sql", "CREATE TABLE a (x INT);\nCREATE TABLE b ();")
