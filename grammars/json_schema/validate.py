"""What a finished text still lacks to be an instance: the check by a full validator, after generation.

The grammar promises no less for a text that has ended; this one speaks for texts that were cut off, and for what the
grammar's own limits leave out. Called by the server.
"""

import json
from itertools import islice
from typing import Final

from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import ValidationError

from grammars.json_schema.document import Document, Draft

MAX_PROBLEMS: Final = 10


def validate(text: str, schema: object, draft: Draft | None = None) -> list[str]:
    """Problems, at most ten, each with the JSON pointer of the faulty part; none for an instance.

    A text that breaks off is said to be incomplete, with the place. Raises SchemaUnsupported as `to_gbnf` does for a
    document that can not be read.
    """
    document = Document(schema, draft)
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        return ["the value is nested too deeply to be read"]
    except json.JSONDecodeError as fault:
        kind = "incomplete" if fault.pos >= len(text.rstrip()) or "Unterminated" in fault.msg else "no JSON"
        return [f"the value is {kind}: {fault.msg} at character {fault.pos}"]
    except ValueError as fault:
        return [f"the value is no JSON: {fault}"]
    validator = (Draft7Validator if document.is_draft_7 else Draft202012Validator)(schema)  # type: ignore[arg-type]
    return [_problem(error) for error in islice(validator.iter_errors(value), MAX_PROBLEMS)]


def _refuse(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _problem(error: ValidationError) -> str:
    path = "".join(f"/{token}" for token in error.absolute_path)
    return f"{path or '#'}: {error.message[:200]}"
