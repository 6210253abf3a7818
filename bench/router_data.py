"""The prompts that the router is measured on. Knows no router."""

import csv
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

from router.evaluate import LabelledPrompt

PROMPTS = Path(__file__).parent / "prompts"
TEST, DEV, PAIRS = (PROMPTS / name for name in ("router.jsonl", "router_dev.jsonl", "pairs.jsonl"))
NUM_GRAPH_QUESTIONS = 2000


def labelled(path: Path) -> list[LabelledPrompt]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [LabelledPrompt(row["text"], (row["expert"], *row.get("also", ())) if row["expert"] else ()) for row in rows]


def schema_prompts(data: Path) -> Iterator[tuple[str, str]]:
    """Questions of Neo4j's text2cypher and of Defog's sql-eval, each once with a graph and once with tables."""
    rng = Random(5)
    schemas = {row["database"]: row["schema"] for row in _rows(data / "text2cypher_neo4jlabs/text2cypher_schemas.csv")}
    questions = _rows(data / "text2cypher_neo4jlabs/text2cypher_questions.csv")
    asked = sorted({(row["question"], row["database"]) for row in questions if row["database"] in schemas})
    for question, database in rng.sample(asked, NUM_GRAPH_QUESTIONS):
        yield f"{schemas[database]}\n\n{question}", "cypher"
        yield f"{_tables_of_graph(schemas[database])}\n\n{question}", "sql"
    for row in _rows(data / "defog_sql_eval/questions_gen_postgres.csv"):
        if columns := _columns(row["query"]):
            tables = "\n".join(f"CREATE TABLE {t} ({', '.join(f'{c} TEXT' for c in cs)});" for t, cs in columns.items())
            labels = "\n".join(f"(:{table.title()} {{{', '.join(cs)}}})" for table, cs in columns.items())
            names = [name.title() for name in columns]
            edges = "".join(f"\n(:{a})-[:HAS]->(:{b})" for a, b in pairwise(names))
            yield f"{tables}\n\n{row['question']}", "sql"
            yield f"{labels}{edges}\n\n{row['question']}", "cypher"


def _tables_of_graph(schema: str) -> str:
    """Every label a table with its properties, every relationship a table of pairs."""
    tables: dict[str, list[str]] = {}
    for line in schema.split("\n"):
        if label := re.match(r"- \*\*(\w+)\*\*", line):
            current = tables.setdefault(label[1], [])
        elif (found := re.match(r"\s+- `(\w+)`: ?(\w+)", line)) and tables:
            current.append(f"{found[1]} {'TEXT' if found[2] == 'STRING' else found[2]}")
    pairs = re.findall(r"\(:(\w+)\)-\[:(\w+)\]->\(:(\w+)\)", schema)
    lines = [f"CREATE TABLE {name} ({', '.join(columns or ['id INT'])});" for name, columns in tables.items()]
    lines += [f"CREATE TABLE {a}_{r.lower()}_{b} ({a}_id INT, {b}_id INT);" for a, r, b in pairs]
    return "\n".join(lines)


def _columns(query: str) -> dict[str, list[str]]:
    """Table -> columns that a query names in full."""
    found: dict[str, list[str]] = {}
    for table, column in re.findall(r"\b([a-z_]{3,})\.([a-z_]+)\b", query):
        columns = found.setdefault(table, [])
        if column not in columns:
            columns.append(column)
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
