"""CREATE TABLE statements of every dialect give their names; what is none is refused by its line."""

from contextlib import suppress
from time import process_time

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from grammars.create_table import MAX_COLUMNS, MAX_NAME, MAX_TABLES, Name, Table, statements_in, tables_of
from grammars.errors import SchemaTextInvalid

NAME = st.from_regex(r"[a-z][a-z0-9_]{0,8}x", fullmatch=True)
TYPES = (
    "INT",
    "VARCHAR(20)",
    "DECIMAL(10, 2) NOT NULL DEFAULT 0.5",
    "TEXT DEFAULT 'a, )' ",
    "INT REFERENCES o(id)",
    "",
)


def names(schema: str) -> dict[str, list[str]]:
    return {table.name.text: [column.text for column in table.columns] for table in tables_of(schema)}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("CREATE TABLE a (b INT, c TEXT);", {"a": ["b", "c"]}),
        ("create table if not exists public.a(b int)", {"a": ["b"]}),
        ("CREATE TEMP TABLE [My Table] (`x y` INT, \"z\"\"q\" INT)", {"My Table": ["x y", 'z"q']}),
        ("CREATE TABLE a (\n  b INT, -- the, key)\n  /* no, c */ d TEXT\n)", {"a": ["b", "d"]}),
        ("CREATE TABLE a (b TEXT DEFAULT ')', c INT CHECK (c > (1)))", {"a": ["b", "c"]}),
        ("CREATE TABLE a (b, c)", {"a": ["b", "c"]}),
        ("CREATE TABLE a (b INT, PRIMARY KEY (b), FOREIGN KEY (b) REFERENCES d, UNIQUE (b), CHECK (b))", {"a": ["b"]}),
        ("CREATE TABLE a (b INT, CONSTRAINT pk PRIMARY KEY (b), KEY i (b), INDEX (b), UNIQUE KEY u (b))", {"a": ["b"]}),
        ("CREATE TABLE a (key CHAR(2), index INT, check INT, x INT)", {"a": ["key", "index", "check", "x"]}),
        ("CREATE TABLE a (b INT); CREATE TABLE c (d INT);\nCREATE TABLE a (e, b)", {"a": ["b", "e"], "c": ["d"]}),
        ("CREATE TABLE größe (maß INT)", {"größe": ["maß"]}),
        ("CREATE TABLE a (b enum('x','y') COMMENT 'it''s', c INT) ENGINE=InnoDB;", {"a": ["b", "c"]}),
    ],
)  # fmt: skip
def test_names_are_found_whatever_else_is_said(schema: str, expected: dict[str, list[str]]) -> None:
    assert names(schema) == expected


@pytest.mark.parametrize(
    ("schema", "line", "reason"),
    [
        ("", 1, "there is no CREATE TABLE"),
        ("SELECT 1", 1, "there is no CREATE TABLE"),
        ("CREATE TABLE", 1, "a table's name is missing"),
        ("CREATE TABLE a (b INT);\nCREATE TABLE (c INT)", 2, "a table's name is missing"),
        ("CREATE TABLE a (b INT);\n\nCREATE TABLE c AS SELECT 1", 3, "table 'c' has no list of columns"),
        ("CREATE TABLE a (b INT", 1, "the parenthesis of table 'a' is never closed"),
        ("CREATE TABLE a ()", 1, "table 'a' has no columns"),
        ("CREATE TABLE a (PRIMARY KEY (b))", 1, "table 'a' has no columns"),
        ("CREATE TABLE a (\n  b INT,\n  12 INT)", 3, "'12' is no column name"),
        (f"CREATE TABLE a (b INT,\n{'x' * (MAX_NAME + 1)} INT)", 2, f"more than {MAX_NAME} characters"),
        (
            "\n".join(f"CREATE TABLE t{i} (a INT);" for i in range(MAX_TABLES + 1)),
            MAX_TABLES + 1,
            "more than 64 tables",
        ),
        (f"CREATE TABLE a ({', '.join(f'c{i}' for i in range(MAX_COLUMNS + 1))})", 1, "more than 1000 columns"),
        ("x" * 65_537, 1, "65537 characters; the limit is 65536"),
    ],
)
def test_what_is_no_schema_is_refused_by_its_line(schema: str, line: int, reason: str) -> None:
    with pytest.raises(SchemaTextInvalid, match=reason) as caught:
        tables_of(schema)
    assert caught.value.line == line


@settings(max_examples=100, deadline=None)
@given(
    tables=st.dictionaries(
        NAME, st.dictionaries(NAME, st.sampled_from(TYPES), min_size=1, max_size=6), min_size=1, max_size=4
    )
)
def test_sqlglot_finds_the_same_names(tables: dict[str, dict[str, str]]) -> None:
    schema = "\n".join(
        f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())});"
        for table, columns in tables.items()
    )
    parsed = [statement.this for statement in sqlglot.parse(schema, read="sqlite") if statement]
    assert names(schema) == {tree.this.name: [d.name for d in tree.expressions] for tree in parsed}
    assert all(isinstance(tree, exp.Schema) for tree in parsed)


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(st.sampled_from([*"(),;'\"`[]-/* \n", "CREATE TABLE ", "a", "KEY ", "b INT", "1"]), max_size=30).map(
        "".join
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SchemaTextInvalid):
        assert all(isinstance(table, Table) and table.columns for table in tables_of(text))
    found = statements_in(text)
    assert found is None or tables_of(found)


def test_statements_are_found_in_a_prompt_and_questions_are_not() -> None:
    prompt = "What's CREATE TABLE good for? CREATE TABLE a (b INT); CREATE TABLE c (\n d INT)\nHow many a's are in (c)?"
    assert statements_in(prompt) == "CREATE TABLE a (b INT);\nCREATE TABLE c (\n d INT);"
    assert statements_in("How do I write a CREATE TABLE?") is None


def test_a_statement_within_a_statement_or_its_comments_is_none() -> None:
    assert names("CREATE TABLE a (b INT, -- CREATE TABLE c (d INT)\n e TEXT DEFAULT 'CREATE TABLE f (g)')") == {
        "a": ["b", "e"]
    }


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE a (" * 4000,
        "CREATE TABLE " * 5000,
        "CREATE TABLE a (/*" * 3600,
        "CREATE TABLE a (-- " * 64 + "\n" + ",a" * 30_000,
        "CREATE TABLE a (" + "[" * 60_000,
        "CREATE TABLE a (" + '"' * 60_000,
        "CREATE TABLE a (" + "'" * 60_001,
        "CREATE TABLE a (" + "/*" * 30_000,
        "CREATE TABLE " + "a." * 30_000,
        "CREATE " + " " * 60_000,
        "CREATE TABLE a (b " * 3000 + ")" * 8000,
        "CREATE TABLE a (" + ",".join(f"c{i}" for i in range(9000)) + ")",
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = process_time()
    with suppress(SchemaTextInvalid):
        tables_of(text)
    statements_in(text)
    assert process_time() - started < 5  # a tenth of that, where nothing else runs; without the bounds a minute


def test_quotes_are_remembered() -> None:
    (table,) = tables_of('CREATE TABLE "A" (b INT, "c" INT)')
    assert (table.name, table.columns) == (Name("A", True), (Name("b", False), Name("c", True)))
