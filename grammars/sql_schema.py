"""The rules by which sql.gbnf names tables and columns, made from CREATE TABLE statements.

Only those tables and columns exist then, and `table.column` fits together. What a grammar can not see stays free:
whether a table of a pair is in FROM, and of which table a column without one is. Aliases can be tied to their table
only if they are fixed, so each table has one (`singer AS singer_2`, enough to join it with itself), sub-queries are
`part_1` to `part_9`, and a result may have one of a few names, which ORDER BY then knows. Called by `library`.
"""

import re
from collections.abc import Collection
from itertools import count, islice
from typing import Final

from grammars.create_table import Name, statements_in, tables_of
from grammars.prefix_tree import one_of, tree
from grammars.spelling import literal

RESULTS: Final = ("average", "highest", "lowest", "total")
"""Besides `value_1` and so on."""
_PLAIN: Final = re.compile(r"[^\W\d]\w*")
_SAME_QUOTED: Final = re.compile(r"[a-z_][a-z0-9_]*")


def rules(schema: str, reserved: Collection[str]) -> str:
    """GBNF of `table`, `column`, `pair`, `alias` and `derived`. Raises SchemaTextInvalid."""
    tables = tables_of(schema)
    taken = {name.text.lower() for table in tables for name in (table.name, *table.columns)}
    aliases = [_alias(table.name, taken) for table in tables]
    taken |= {alias.text.lower() for alias in aliases}
    results = [*(name for name in RESULTS if name not in taken), *_numbered("value", taken)]
    parts = _numbered("part", taken)
    columns = [[spelled(column, reserved) for column in table.columns] for table in tables]
    known = {name for of in columns for name in of} | set(results)
    pairs: dict[str, tuple[str, ...]] = dict.fromkeys(parts, ('"." any',))
    sources: dict[str, tuple[str, ...]] = {}
    for i, table in enumerate(tables):
        name, alias = spelled(table.name, reserved), spelled(aliases[i], reserved)
        sources[name] = ("", literal(f" AS {alias}"))
        pairs[name] = pairs[alias] = (f'"." of-{_letters(i)}',)
    both: dict[str, tuple[str, ...]] = dict.fromkeys(known, ("",))
    both |= {name: (*both.get(name, ()), *after) for name, after in pairs.items()}
    lines = [
        f"table   ::= {tree(sources)}",
        f"column  ::= {tree(both)}",
        f"pair    ::= {tree(pairs)}",
        f"any     ::= {one_of(sorted(known))}",
        f"alias   ::= {one_of(results)}",
        f"derived ::= {one_of(parts)}",
        *(f"of-{_letters(i)}    ::= {one_of(of)}" for i, of in enumerate(columns)),
    ]
    return "\n".join(["", *lines, ""])


def find(prompt: str) -> str | None:
    """The CREATE TABLE statements in a prompt."""
    return statements_in(prompt)


def spelled(name: Name, reserved: Collection[str]) -> str:
    """The one way to write a name that SQLite and PostgreSQL both read as what CREATE TABLE made.

    PostgreSQL takes unquoted names for small letters, so a name in quotes keeps them unless they change nothing.
    """
    plain = _SAME_QUOTED if name.is_quoted else _PLAIN
    if plain.fullmatch(name.text) and name.text.lower() not in reserved:
        return name.text
    text = name.text if name.is_quoted else name.text.lower()
    return '"' + text.replace('"', '""') + '"'


def _numbered(stem: str, taken: Collection[str]) -> list[str]:
    """Nine names that the schema has not."""
    free = (name for i in count(1) if (name := f"{stem}_{i}") not in taken)
    return list(islice(free, 9))


def _alias(name: Name, taken: Collection[str]) -> Name:
    number = next(n for n in range(2, len(taken) + 3) if f"{name.text}_{n}".lower() not in taken)
    return Name(f"{name.text}_{number}", name.is_quoted)


def _letters(index: int) -> str:
    """0 is aa, 1 is ab: a number at a rule's end would be a level of nesting."""
    return chr(97 + index // 26) + chr(97 + index % 26)
