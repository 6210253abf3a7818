"""Cues: phrases that give a prompt away.

Owns the syntax of a phrase and what it matches. Knows no experts. Called by `keywords`.

A phrase matches whole words, whatever their case, width and spacing: `class` is neither in `classical` nor in
`sub-class`. `...` between words stands for up to 80 other characters of the same clause, so that a cue cannot
begin in the instruction and end in the text that it is about. A leading `^` asks for the beginning of a line.
"""

import re
import unicodedata
from dataclasses import dataclass

from router.errors import CueInvalid

_GAP = r"[^.!?:;\n]{0,80}?"
_MAX_END_CHARS = 4000


@dataclass(frozen=True, slots=True)
class Cue:
    phrase: str
    pattern: re.Pattern[str]

    def find(self, text: str) -> frozenset[int]:
        """Where its words stand in a normalized text, as positions of characters; gaps do not count."""
        match = self.pattern.search(text)
        spans = [] if match is None else [match.span(i + 1) for i in range(self.pattern.groups)]
        return frozenset(position for start, end in spans for position in range(start, end))


def compile_cue(phrase: str) -> Cue:
    body = normalize(phrase).strip()
    parts = body.removeprefix("^").split("...")
    if not all(part.strip() for part in parts):
        raise CueInvalid(phrase)
    start = "(?m:^)" if body.startswith("^") else ""
    return Cue(phrase, re.compile(start + _GAP.join(f"({_words(part.split())})" for part in parts)))


def normalize(text: str) -> str:
    """One spelling for what reads the same; a long prompt says what it wants at its beginning or its end."""
    if len(text) > 2 * _MAX_END_CHARS:
        text = f"{text[:_MAX_END_CHARS]}\n{text[-_MAX_END_CHARS:]}"
    # Folding takes some letters apart again, hence the second normalization.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _words(words: list[str]) -> str:
    pattern = r"\s+".join(re.escape(word) for word in words)
    before = r"(?<!\w)(?<!\w-)" if _is_word_char(words[0][0]) else ""
    after = r"(?!-?\w)" if _is_word_char(words[-1][-1]) else ""
    return before + pattern + after


def _is_word_char(char: str) -> bool:
    return re.match(r"\w", char) is not None
