"""Table and column names out of CREATE TABLE statements, whatever else the statements say.

Reads what people paste: any dialect's types, constraints, comments and quotes. Knows no grammar; called by
`sql_schema`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from grammars.errors import SchemaTextInvalid

MAX_CHARS: Final = 65_536
MAX_TABLES: Final = 64
MAX_COLUMNS: Final = 1_000
MAX_NAME: Final = 64

_START: Final = re.compile(
    r"\bCREATE\s+(?:(?:GLOBAL|LOCAL|TEMP|TEMPORARY|UNLOGGED|VIRTUAL)\s+)*TABLE\b(?:\s+IF\s+NOT\s+EXISTS\b)?",
    re.IGNORECASE,
)
_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>'(?:[^']|'')*+(?:'|\Z))
    |"(?P<double>(?:[^"\n]|""){1,256}+)"|`(?P<back>[^`\n]{1,256})`|\[(?P<square>[^\]\n]{1,256})\]
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>\d[\w.]*|.)""",
    re.VERBOSE | re.DOTALL,
)
_QUOTES: Final = ("double", "back", "square")


@dataclass(frozen=True, slots=True)
class Name:
    """As written, without its quotes."""

    text: str
    is_quoted: bool


@dataclass(frozen=True, slots=True)
class Table:
    name: Name
    columns: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int

    @property
    def name(self) -> Name | None:
        return Name(self.text, self.kind in _QUOTES) if self.kind in (*_QUOTES, "word") else None


def tables_of(text: str) -> tuple[Table, ...]:
    """Every table, a repeated one once with the columns of all. Raises SchemaTextInvalid, naming the line."""
    if len(text) > MAX_CHARS:
        raise SchemaTextInvalid(1, f"{len(text)} characters; the limit is {MAX_CHARS}")
    columns: dict[Name, dict[Name, None]] = {}
    start = _START.search(text)
    while start:
        table, end = _statement(text, start, _tokens(text, start.end()))
        columns.setdefault(table.name, {}).update(dict.fromkeys(table.columns))
        if len(columns) > MAX_TABLES:
            raise SchemaTextInvalid(_line(text, start.start()), f"more than {MAX_TABLES} tables")
        if sum(map(len, columns.values())) > MAX_COLUMNS:
            raise SchemaTextInvalid(_line(text, start.start()), f"more than {MAX_COLUMNS} columns in all tables")
        start = _START.search(text, end)
    if not columns:
        raise SchemaTextInvalid(1, "there is no CREATE TABLE")
    return tuple(Table(name, tuple(of)) for name, of in columns.items())


def statements_in(text: str) -> str | None:
    """The CREATE TABLE statements that stand in a text's first 65,536 characters, each on a line of its own; None where
    there is none. What reads like one and is none is passed over, until as much as a text was read in vain."""
    text = text[:MAX_CHARS]
    found = []
    in_vain = 0
    start = _START.search(text)
    while start and in_vain < MAX_CHARS:
        tokens = _tokens(text, start.end())
        try:
            _, end = _statement(text, start, tokens)
            found.append(text[start.start() : end] + ";")
        except SchemaTextInvalid:
            unread = next(tokens, None)
            in_vain += (unread.start if unread else len(text)) - start.end()
            end = start.end()
        start = _START.search(text, end)
    return "\n".join(found) or None


def _statement(text: str, start: re.Match[str], tokens: Iterator[_Token]) -> tuple[Table, int]:
    """A table and where its column list ends; the tokens are those after the start."""
    name, opening = _qualified_name(text, tokens, start.start())
    if opening is None or opening.text != "(" or opening.kind != "other":
        raise SchemaTextInvalid(
            _line(text, start.start()), f"table {name.text!r} has no list of columns in parentheses"
        )
    columns: dict[Name, None] = {}
    entry: list[_Token] = []
    depth = 1
    for token in tokens:
        mark = token.text if token.kind == "other" else ""
        depth += (mark == "(") - (mark == ")")
        if (mark == "," and depth == 1) or depth == 0:
            if (column := _column(text, entry)) is not None:
                columns[column] = None
            entry = []
            if depth == 0:
                if not columns:
                    raise SchemaTextInvalid(_line(text, token.start), f"table {name.text!r} has no columns")
                return Table(name, tuple(columns)), token.end
        else:
            entry.append(token)
    raise SchemaTextInvalid(_line(text, start.start()), f"the parenthesis of table {name.text!r} is never closed")


def _qualified_name(text: str, tokens: Iterator[_Token], start: int) -> tuple[Name, _Token | None]:
    """The table's name without its schema, and the token after it."""
    while True:
        token = next(tokens, None)
        name = token.name if token else None
        if token is None or name is None:
            raise SchemaTextInvalid(_line(text, token.start if token else start), "a table's name is missing")
        after = next(tokens, None)
        if after is None or after.text != ".":
            return _bounded(text, name, token), after


def _column(text: str, entry: list[_Token]) -> Name | None:
    """The column that an entry of the list defines; None for a constraint."""
    if not entry:
        return None
    first = entry[0]
    if first.kind == "word" and _is_constraint(entry):
        return None
    if (name := first.name) is None:
        raise SchemaTextInvalid(_line(text, first.start), f"{first.text[:20]!r} is no column name")
    return _bounded(text, name, first)


def _is_constraint(entry: list[_Token]) -> bool:
    """Tells `PRIMARY KEY (a)` from a column that happens to be called `key`."""
    words = [token.text.upper() for token in entry[:4]]
    second = words[1] if len(words) > 1 else ""
    match words[0]:
        case "CONSTRAINT" | "EXCLUDE" | "FULLTEXT" | "SPATIAL" | "LIKE":
            return len(words) > 1
        case "PRIMARY" | "FOREIGN":
            return second == "KEY"
        case "UNIQUE" | "CHECK":
            return second in ("(", "KEY", "INDEX")
        case "KEY" | "INDEX":  # (a) or name (a), but not VARCHAR(20)
            opening = words.index("(", 1) if "(" in words[1:3] else 0
            return opening > 0 and len(entry) > opening + 1 and entry[opening + 1].name is not None
    return False


def _bounded(text: str, name: Name, token: _Token) -> Name:
    if len(name.text) > MAX_NAME or not name.text.isprintable():
        reason = f"the name {name.text[:MAX_NAME]!r} is not printable or has more than {MAX_NAME} characters"
        raise SchemaTextInvalid(_line(text, token.start), reason)
    return name


def _tokens(text: str, start: int) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text, start):
        kind = match.lastgroup or "other"
        if kind == "skip":
            continue
        value = match[kind].replace('""', '"') if kind == "double" else match[kind]
        yield _Token(kind, value, match.start(), match.end())


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
