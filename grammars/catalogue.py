"""What the library holds, in words: each grammar's purpose, sentences that it admits and where its rules are.

The tests hold every example against its grammar. Read by `library`.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LibraryGrammar:
    """One grammar of the library."""

    name: str
    description: str
    examples: tuple[str, ...]
    takes_schema: bool = False
    """Whether `library.build` can narrow it to the names of a schema."""
    rules: str = ""
    """The file of the rules that it needs besides its own."""


CATALOGUE: Final = (
    LibraryGrammar(
        "cypher",
        "One Cypher query that only reads: MATCH, WHERE, WITH, UNWIND, RETURN. With a graph schema, only its labels,"
        " relationships in their direction and properties.",
        (
            "MATCH (a:Person {name: 'Maria'})-[:ACTED_IN]->(b:Movie) RETURN b.title;",
            "MATCH (a:Person) OPTIONAL MATCH (a)-[:KNOWS]->(b) WITH a, count(b) AS n WHERE n > 2 RETURN a.name, n"
            " ORDER BY n DESC LIMIT 5",
            "UNWIND ['Porto', 'Oslo'] AS city MATCH (a:Person) WHERE a.city = city RETURN city, count(*) AS total;",
        ),
        takes_schema=True,
        rules="cypher.rules",
    ),
    LibraryGrammar("date", "A day of the calendar, as ISO 8601 writes it.", ("2024-02-29", "1999-12-31")),
    LibraryGrammar(
        "json",
        "Any JSON value.",
        ('{"name": "Maria Santos", "age": 31, "tags": ["new", null]}', "[1, -2.5e3]", '"caf\\u00e9"'),
        rules="json.rules",
    ),
    LibraryGrammar("json_array", "A JSON array of any elements.", ('[{"id": 1}, "x", null]', "[]"), rules="json.rules"),
    LibraryGrammar(
        "json_object",
        "A JSON object with any members.",
        ('{"name": "Maria", "tags": ["new", null]}', "{}"),
        rules="json.rules",
    ),
    LibraryGrammar("labels", "The department that a support ticket goes to.", ("billing", "technical")),
    LibraryGrammar("number", "A decimal number, as JSON writes it.", ("42", "-0.5", "6.02e23")),
    LibraryGrammar("quantity", "A number and a metric unit of length, mass, volume or power.", ("12.5 mm", "3500 W")),
    LibraryGrammar(
        "sentence",
        "One sentence on one line.",
        ("Could you please review the report as soon as possible?", "O carro é vermelho."),
    ),
    LibraryGrammar(
        "sql",
        "One SELECT that SQLite and PostgreSQL take. With CREATE TABLE lines as schema, only their tables and columns.",
        (
            "SELECT city, AVG(age) FROM singers WHERE age > 30 GROUP BY city ORDER BY city DESC LIMIT 3;",
            "SELECT a.name FROM singers AS a LEFT JOIN concerts AS b ON a.id = b.singer_id WHERE b.id IS NULL",
            'SELECT name FROM singers WHERE age > (SELECT AVG(age) FROM singers) UNION SELECT "Name" FROM guests;',
            "SELECT CASE WHEN age < 18 THEN 'minor' ELSE 'adult' END AS kind, COUNT(*) FROM singers GROUP BY 1;",
        ),
        takes_schema=True,
        rules="sql.rules",
    ),
    LibraryGrammar(
        "typescript",
        "TypeScript declarations: interfaces, type aliases and functions with simple bodies.",
        (
            "interface Person {\n  name: string;\n  age?: number;\n}",
            'type Status = "new" | "done" | Array<Step>;',
            "function total(prices: number[], rate: number): number {\n  const sum = prices.length * rate;\n"
            "  return sum + 1;\n}",
        ),
    ),
)
