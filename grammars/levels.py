"""Rules that nest to a fixed depth, written once, and the ones that are needed.

GBNF could recurse, and then a model that repeats itself would nest for ever. So a library file spells out the first
level of its nested rules (`value-1`, which refers to `value-2`) and, for one of them, the last (`value-17`);
the levels between are copies of the first. Called by `library`.
"""

import re
from typing import Final

_RULE: Final = re.compile(r"^([a-zA-Z0-9-]+) *::=.*(?:\n+[ \t]+.*)*\n?", re.MULTILINE)
_QUOTED: Final = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]')
_NAME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9-]*")
_LEVEL: Final = re.compile(_QUOTED.pattern + r"|(?<![\w-])([a-z][a-z-]*-)([12])(?![\w-])")


def unrolled(gbnf: str) -> str:
    """The text with its levels in between; a text without levels stays as it is."""
    rules = {match[1]: match[0] for match in _RULE.finditer(gbnf)}
    first = {name: text for name, text in rules.items() if name.endswith("-1")}
    last = max((level for name in rules if (level := _level(name, first)) > 1), default=0)
    copies = [_at(text, level) for level in range(2, last) for text in first.values()]
    return "\n".join([gbnf.rstrip("\n"), *(copy.rstrip("\n") for copy in copies), ""])


def _level(name: str, first: dict[str, str]) -> int:
    """17 for `value-17` where there is a `value-1`, else 0."""
    stem, _, level = name.rpartition("-")
    return int(level) if level.isdecimal() and f"{stem}-1" in first else 0


def _at(rule: str, level: int) -> str:
    return _LEVEL.sub(lambda match: f"{match[1]}{int(match[2]) + level - 1}" if match[2] else match[0], rule)


def reachable(gbnf: str, root: str = "root") -> str:
    """The rules that the root needs, in their order; comments go. What a schema leaves out may strand others."""
    rules = {match[1]: match[0].rstrip("\n") for match in _RULE.finditer(gbnf)}
    needed: dict[str, None] = {}
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name in rules and name not in needed:
            needed[name] = None
            waiting += _NAME.findall(_QUOTED.sub(" ", rules[name].partition("::=")[2]))
    return "\n".join([*(text for name, text in rules.items() if name in needed), ""])
