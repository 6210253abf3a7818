"""Identifiers that are not reserved words, written out as GBNF.

GBNF can not say "any word but these", so the reserved words are laid out as a prefix tree: at every letter a
word may leave the tree, and where the path so far is itself reserved it has to. The nodes are numbered, for their
spelling would be half of the text. Called by `library`.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Final

LOWER: Final = ascii_lowercase + digits + "_"
CAMEL: Final = LOWER + ascii_uppercase
MAX_TAIL: Final = 40  # letters after a word has left the tree; ends a runaway


def words_except(rule: str, reserved: Collection[str], letters: str = LOWER) -> str:
    """Rules that define `rule`, by `more` and `rest`: a small letter, then `letters`, but no reserved word."""
    prefixes = sorted({word[:end] for word in reserved for end in range(len(word) + 1)} | {""})
    last = {prefix for prefix, after in pairwise([*prefixes, ""]) if not after.startswith(prefix)} - {""}
    names = {prefix: f"{rule}-{i}" for i, prefix in enumerate(prefixes)} | dict.fromkeys(last, "more") | {"": rule}
    lines = [_node(prefix, names, prefix in reserved, letters) for prefix in prefixes if prefix not in last]
    if last:
        lines.append(f"more ::= [{_ranges(letters)}] rest")
    return "\n".join([*lines, f"rest ::= [{_ranges(letters)}]{{0,{MAX_TAIL}}}", ""])


def _node(prefix: str, names: Mapping[str, str], is_reserved: bool, letters: str) -> str:
    alphabet = letters if prefix else ascii_lowercase
    inside = [letter for letter in alphabet if prefix + letter in names]
    outside = [letter for letter in alphabet if letter not in inside]
    options = [f"[{_ranges(outside)}] rest", *(f'"{c}" {names[prefix + c]}' for c in inside)]
    # The empty option ends the word here.
    return f"{names[prefix]} ::= {'' if is_reserved or not prefix else '| '}{' | '.join(options)}"


def _ranges(letters: Iterable[str]) -> str:
    """`abcdxz` as `a-dxz`: llama.cpp compares with every entry of a class in turn."""
    runs: list[list[str]] = []
    for letter in letters:
        if runs and ord(letter) == ord(runs[-1][1]) + 1:
            runs[-1][1] = letter
        else:
            runs.append([letter, letter])
    return "".join(first if first == last else f"{first}-{last}" for first, last in runs)
