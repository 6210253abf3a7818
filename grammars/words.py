"""Identifiers that are not reserved words, written out as GBNF.

GBNF can not say "any word but these", so the reserved words are laid out as a prefix tree: at every letter a
word may leave the tree, and where the path so far is itself reserved it has to. Called by `library`.
"""

from collections.abc import Collection, Iterable
from string import ascii_lowercase, digits
from typing import Final

MAX_TAIL: Final = 24  # letters after a word has left the tree; ends a runaway


def words_except(rule: str, reserved: Collection[str]) -> str:
    """Rules that define `rule` as a lower-case identifier other than the reserved ones."""
    prefixes = {word[:end] for word in reserved for end in range(len(word) + 1)} | {""}
    tail = f"{rule}-tail"
    lines = [_node(rule, tail, prefix, prefixes, prefix in reserved) for prefix in sorted(prefixes)]
    return "\n".join([*lines, f"{tail} ::= [a-z0-9_]{{0,{MAX_TAIL}}}", ""])


def _node(rule: str, tail: str, prefix: str, prefixes: Collection[str], is_reserved: bool) -> str:
    alphabet = ascii_lowercase + digits + "_" if prefix else ascii_lowercase
    inside = [letter for letter in alphabet if prefix + letter in prefixes]
    outside = [letter for letter in alphabet if letter not in inside]
    options = [f"[{_ranges(outside)}] {tail}", *(f'"{c}" {_name(rule, prefix + c)}' for c in inside)]
    # The empty option ends the word here.
    return f"{_name(rule, prefix)} ::= {'' if is_reserved or not prefix else '| '}{' | '.join(options)}"


def _name(rule: str, prefix: str) -> str:
    return f"{rule}-at-{prefix.replace('_', '-')}" if prefix else rule


def _ranges(letters: Iterable[str]) -> str:
    """`abcdxz` as `a-dx-xz-z`: llama.cpp compares with every entry of a class in turn."""
    runs: list[list[str]] = []
    for letter in letters:
        if runs and ord(letter) == ord(runs[-1][1]) + 1:
            runs[-1][1] = letter
        else:
            runs.append([letter, letter])
    return "".join(f"{first}-{last}" for first, last in runs)
