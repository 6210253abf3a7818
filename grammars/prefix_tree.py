"""Alternatives laid out as a prefix tree, so that llama.cpp follows one path instead of comparing every name.

Called by the builders of grammars for a schema.
"""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Final

MAX_DEPTH: Final = 24
"""Parentheses within parentheses; below that the rest is a plain list."""


def one_of(words: Sequence[str]) -> str:
    """A GBNF expression for exactly these words."""
    return tree(dict.fromkeys(words, ("",)))


def tree(after: Mapping[str, Sequence[str]], depth: int = 0) -> str:
    """A GBNF expression for each word followed by one of its continuations, which are GBNF themselves or empty.

    Words may not be empty; there is at least one.
    """
    branches: dict[str, dict[str, Sequence[str]]] = {}
    for word in sorted(after):
        branches.setdefault(word[0], {})[word] = after[word]
    if depth == MAX_DEPTH:
        return " | ".join(_branch({word: after[word]}, depth) for word in sorted(after))
    return " | ".join(_branch(branch, depth) for branch in branches.values())


def _branch(after: Mapping[str, Sequence[str]], depth: int) -> str:
    """Words that begin with the same letter."""
    prefix = _common_start(min(after), max(after))
    rest = {word[len(prefix) :]: following for word, following in after.items() if word != prefix}
    here = list(after.get(prefix, ()))
    options = [option for option in here if option] + ([tree(rest, depth + 1)] if rest else [])
    if not options:
        return literal(prefix)
    is_plain = len(options) == 1 and not rest
    group = options[0] if is_plain and "" not in here else f"({' | '.join(options)}){'?' if '' in here else ''}"
    return f"{literal(prefix)} {group}"


def _common_start(first: str, last: str) -> str:
    """What all words between the two share at their beginning."""
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(letter for letter, _ in same)


def literal(text: str) -> str:
    """The text as a quoted GBNF string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
