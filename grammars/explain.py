"""How far a text is a sentence of a grammar, and what could stand where it is none.

Reads the text byte by byte, with a byte vocabulary, so the place that it names depends on no tokenizer. Called by the
command line.
"""

from dataclasses import dataclass
from typing import Final

from grammars.compiler import CompiledGrammar
from grammars.matcher import Matcher

MAX_RUN: Final = 24
"""Letters of one continuation, as long as the grammar leaves no choice."""
MAX_RUNS: Final = 24
"""Continuations that are followed; of more, only the first letters are told."""
_MAX_FOLLOWED_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Explanation:
    """`accepted` is the longest beginning that may still become a sentence."""

    accepted: str
    refused: str
    """The rest of the text, empty where all of it was accepted."""
    is_sentence: bool
    may_end: bool
    """Whether the accepted part is a sentence."""
    next: tuple[str, ...]
    """What could follow the accepted part: its first letters, as long as there is no other way on."""
    next_beyond_ascii: bool
    """Whether letters beyond ASCII could follow as well."""

    @property
    def line(self) -> int:
        return self.accepted.count("\n") + 1

    @property
    def column(self) -> int:
        """Characters into the line, from 1."""
        return len(self.accepted) - (self.accepted.rfind("\n") + 1) + 1


def explain(grammar: CompiledGrammar, text: str) -> Explanation:
    """Feeds the text as far as it goes. The grammar's vocabulary is that of the bytes."""
    data = text.encode("utf-8", errors="replace")  # a lone surrogate is no text; it counts as a question mark
    matcher = grammar.matcher()
    count = _feed(matcher, data)
    while count < len(data) and data[count] & 0xC0 == 0x80:  # back to the beginning of the character
        count -= 1
    matcher.close()
    matcher = grammar.matcher()
    _feed(matcher, data[:count])
    accepted, may_end, following = data[:count].decode(), matcher.is_complete, _following(matcher)
    matcher.close()
    letters = [chr(byte) for byte in following if byte < 0x80]
    if len(letters) <= MAX_RUNS and count <= _MAX_FOLLOWED_BYTES:
        letters = [_run(grammar, data[:count], letter) for letter in letters]
    return Explanation(
        accepted=accepted,
        refused=text[len(accepted) :],
        is_sentence=may_end and count == len(data),
        may_end=may_end,
        next=tuple(letters),
        next_beyond_ascii=any(byte >= 0x80 for byte in following),
    )


def _feed(matcher: Matcher, data: bytes) -> int:
    """How many bytes were accepted."""
    for count, byte in enumerate(data):
        if not matcher.allows(byte):
            return count
        matcher.accept(byte)
    return len(data)


def _following(matcher: Matcher) -> list[int]:
    return [byte for byte in range(256) if matcher.allows(byte)]


def _run(grammar: CompiledGrammar, before: bytes, first: str) -> str:
    """A letter and what has to come after it."""
    matcher = grammar.matcher()
    _feed(matcher, before + first.encode())
    run = first
    while len(run) < MAX_RUN and not matcher.is_complete:
        following = _following(matcher)
        if len(following) != 1 or following[0] >= 0x80:
            break
        matcher.accept(following[0])
        run += chr(following[0])
    matcher.close()
    return run
