"""Whether an answer is well formed, by a real parser of its language wherever there is one."""

import json
import re
from collections.abc import Callable
from datetime import date

import sqlglot
import tree_sitter_typescript
from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from antlr4_cypher import CypherLexer, CypherParser
from sqlglot.errors import SqlglotError
from tree_sitter import Language, Parser

from training.tasks.triage import LABELS

TYPESCRIPT = Parser(Language(tree_sitter_typescript.language_typescript()))
DECLARATIONS = {"interface_declaration", "type_alias_declaration", "function_declaration", "function_signature"}


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def is_sql(text: str) -> bool:
    try:
        [statement] = sqlglot.parse(text, dialect="sqlite")
    except (SqlglotError, ValueError):
        return False
    return isinstance(statement, sqlglot.exp.Query)


def is_cypher(text: str) -> bool:
    class Faults(ErrorListener):  # type: ignore[misc]
        found = False

        def syntaxError(self, *_: object) -> None:
            self.found = True

    faults = Faults()
    lexer = CypherLexer(InputStream(text))
    parser = CypherParser(CommonTokenStream(lexer))
    for source in (lexer, parser):
        source.removeErrorListeners()
        source.addErrorListener(faults)
    parser.script()
    return not faults.found


def is_typescript(text: str) -> bool:
    """Declarations and nothing else."""
    root = TYPESCRIPT.parse(text.encode()).root_node
    return not root.has_error and bool(root.children) and {node.type for node in root.children} <= DECLARATIONS


def is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def is_quantity(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)? ([GMkhdcm]?[mglW]|t)", text) is not None


def is_sentence(text: str) -> bool:
    """One line that begins with a capital and ends with a mark."""
    return text[:1].isupper() and text[-1:] in (".", "!", "?") and text.isprintable()


VALIDATORS: dict[str, Callable[[str], bool]] = {
    "json-extract": is_json,
    "json-repair": is_json,
    "formal-tone": is_sentence,
    "en-pt": is_sentence,
    "typescript": is_typescript,
    "sql": is_sql,
    "cypher": is_cypher,
    "ticket-triage": LABELS.__contains__,
    "dates": is_date,
    "units": is_quantity,
}
