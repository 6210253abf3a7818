"""Cues: phrases that give a prompt away.

Owns the syntax of a phrase, what it matches, and which of many phrases are worth trying on a text. Knows no experts.
Called by `keywords`.

A phrase matches whole words, whatever their case, width and spacing: `class` is neither in `classical` nor in
`sub-class`. `...` between words stands for up to 80 other characters of the same clause, so that a cue cannot
begin in the instruction and end in the text that it is about. A leading `^` asks for the beginning of a line.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from router.bag import normalize
from router.errors import CueInvalid

__all__ = ["Cue", "CueIndex", "compile_cue", "normalize"]

_GAP = r"[^.!?:;\n]{0,80}?"
_WORD = re.compile(r"\w+")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cue:
    phrase: str
    pattern: re.Pattern[str]
    words: frozenset[str]
    """Those without which it cannot match."""

    def find(self, text: str) -> frozenset[int]:
        """Where its words stand in a normalized text, as positions of characters; gaps do not count."""
        match = self.pattern.search(text)
        spans = [] if match is None else [match.span(i + 1) for i in range(self.pattern.groups)]
        return frozenset(position for start, end in spans for position in range(start, end))


class CueIndex(Generic[T]):
    """Cues of many owners. A text costs by its own words and by the cues that they complete, not by all there are."""

    def __init__(self, cues: Iterable[tuple[Cue, T]]) -> None:
        entries = list(cues)
        counts: dict[str, int] = defaultdict(int)
        for cue, _ in entries:
            for word in cue.words:
                counts[word] += 1
        self._by_word: dict[str, list[tuple[Cue, T]]] = defaultdict(list)
        self._wordless: list[tuple[Cue, T]] = []
        for cue, owner in entries:
            if cue.words:
                self._by_word[min(cue.words, key=lambda word: (counts[word], word))].append((cue, owner))
            else:
                self._wordless.append((cue, owner))

    def find(self, text: str, words: frozenset[str]) -> Iterator[tuple[Cue, T, frozenset[int]]]:
        """Every cue that matches the normalized text, whose words these are, with its owner and its positions."""
        for cue, owner in self._candidates(words):
            if positions := cue.find(text):
                yield cue, owner, positions

    def _candidates(self, words: frozenset[str]) -> Iterator[tuple[Cue, T]]:
        yield from self._wordless
        for word in self._by_word.keys() & words:
            for entry in self._by_word[word]:
                if entry[0].words <= words:
                    yield entry


def compile_cue(phrase: str) -> Cue:
    body = normalize(phrase).strip()
    parts = body.removeprefix("^").split("...")
    if not all(part.strip() for part in parts):
        raise CueInvalid(phrase)
    start = "(?m:^)" if body.startswith("^") else ""
    pattern = re.compile(start + _GAP.join(f"({_words(part.split())})" for part in parts))
    return Cue(phrase, pattern, frozenset(words_in(body)))


def words_in(normalized: str) -> list[str]:
    return _WORD.findall(normalized)


def _words(words: list[str]) -> str:
    pattern = r"\s+".join(re.escape(word) for word in words)
    before = r"(?<!\w)(?<!\w-)" if _is_word_char(words[0][0]) else ""
    after = r"(?!-?\w)" if _is_word_char(words[-1][-1]) else ""
    return before + pattern + after


def _is_word_char(char: str) -> bool:
    return _WORD.match(char) is not None
