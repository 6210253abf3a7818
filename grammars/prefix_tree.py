"""Alternatives laid out as a prefix tree, so that llama.cpp follows one path instead of comparing every one of them.

As an expression for the builders of grammars for a schema, as rules for `spec` and `json_schema`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby, takewhile
from typing import Final

from grammars.rules import Alternative, Ref, Rules
from grammars.spelling import literal

MAX_DEPTH: Final = 24
"""Parentheses within parentheses; below that the rest is a plain list."""


def one_of(words: Sequence[str]) -> str:
    """A GBNF expression for exactly these words."""
    return tree(dict.fromkeys(words, ("",)))


def tree(after: Mapping[str, Sequence[str]], depth: int = 0) -> str:
    """A GBNF expression for each word followed by one of its continuations, which are GBNF themselves or empty.

    Words may not be empty; there is at least one.
    """
    groups = [(word, [word]) for word in sorted(after)] if depth == MAX_DEPTH else _branches(sorted(after))
    return " | ".join(_branch(prefix, {word: after[word] for word in words}, depth) for prefix, words in groups)


def _branch(prefix: str, after: Mapping[str, Sequence[str]], depth: int) -> str:
    """Words that begin with the prefix."""
    rest = {word[len(prefix) :]: following for word, following in after.items() if word != prefix}
    here = list(after.get(prefix, ()))
    options = [option for option in here if option] + ([tree(rest, depth + 1)] if rest else [])
    if not options:
        return literal(prefix)
    is_plain = len(options) == 1 and not rest
    group = options[0] if is_plain and "" not in here else f"({' | '.join(options)}){'?' if '' in here else ''}"
    return f"{literal(prefix)} {group}"


def write(rules: Rules, start: Ref, texts: Iterable[str]) -> Ref:
    """Defines the reserved rule, and others named like it, as exactly these texts."""
    waiting = [(start, sorted(set(texts)))]
    while waiting:
        ref, rests = waiting.pop()
        options: list[Alternative] = [()] if "" in rests else []
        for prefix, branch in _branches([rest for rest in rests if rest]):
            if len(branch) == 1:
                options.append((literal(prefix),))
                continue
            inner = rules.reserve(start.name)
            options.append((literal(prefix), inner))
            waiting.append((inner, [rest[len(prefix) :] for rest in branch]))
        rules.define(ref, *options)
    return start


def _branches(texts: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Sorted texts by their first character, each group with all that it begins with."""
    for _, members in groupby(texts, key=lambda text: text[0]):
        group = list(members)
        pairs = takewhile(lambda pair: pair[0] == pair[1], zip(group[0], group[-1], strict=False))
        yield "".join(letter for letter, _ in pairs), group
