"""GBNF of an answer that calls functions: each call as JSON between marks, its arguments held to their schema.

An answer is free text, which the opening mark ends, and then calls; or calls alone. Knows no model and no HTTP. Called
by `spec`.
"""

import json
from collections.abc import Sequence
from typing import Final

from grammars import json_schema
from grammars.errors import SchemaUnsupported

START: Final = "<tool_call>"
END: Final = "</tool_call>"
ROOT: Final = "ANSWER"
MAX_CALLS: Final = 16


def to_gbnf(functions: Sequence[tuple[str, str]], has_text: bool, max_calls: int = MAX_CALLS) -> str:
    """The functions as (name, JSON schema of its arguments as text); the rule to begin with is ROOT.

    With text, there may be no call at all; without, there is at least one. Raises SchemaUnsupported.
    """
    # The schema's rules are named by its own words in lower case, ours in capitals.
    rules = [
        json_schema.to_gbnf(_one_of(functions)).rstrip("\n"),
        f"CALL ::= {json.dumps(START)} BODY",
        f'BODY ::= "\\n" root {json.dumps(chr(10) + END)}',
        f'MORE ::= ("\\n" CALL){{0,{max_calls - 1}}}' if max_calls > 1 else 'MORE ::= ""',
        *(_text_before_mark() if has_text else ()),
        f"{ROOT} ::= {'TEXT-0' if has_text else 'CALL MORE'}",
    ]
    return "\n".join(rules) + "\n"


def _one_of(functions: Sequence[tuple[str, str]]) -> dict[str, object]:
    return {"anyOf": [_call(number, name, text) for number, (name, text) in enumerate(functions)]}


def _call(number: int, name: str, text: str) -> dict[str, object]:
    parameters = json.loads(text)
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise SchemaUnsupported("type", f"#/{name}", "the arguments of a function are an object")
    # A resource of its own, so that its references stay inside it.
    arguments = {**parameters, "type": "object", "$id": f"function:{number}"}
    arguments.pop("$schema", None)
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _text_before_mark() -> list[str]:
    """Any text, one state for each beginning of the mark that it may end in (Knuth, Morris, Pratt 1977)."""
    rules = []
    for state, expected in enumerate(START):
        following = f"TEXT-{state + 1}" if state + 1 < len(START) else "BODY MORE"
        restart = [f'"{START[0]}" TEXT-1'] if expected != START[0] else []
        others = "".join(sorted({expected, START[0]}))
        ways = ['""', f'"{expected}" {following}', *restart, f"[^{others}] TEXT-0"]
        rules.append(f"TEXT-{state} ::= {' | '.join(ways)}")
    return rules
