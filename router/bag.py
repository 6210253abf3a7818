"""A text as a bag of numbers: hashed words, pairs of words and pieces of words.

Owns the features of `lexical`: which ones a text has and where each lies in its table. Knows no weights.
Pieces of words make a typo a small change; pairs keep a little of the order.
"""

import re
import unicodedata
import zlib
from functools import lru_cache
from itertools import pairwise

MAX_CHARS = 4000
"""Of the beginning and of the end each: a long prompt says what it wants at one of the two."""
MAX_WORDS = 384
MAX_WORD_CHARS = 24
PIECES = (3, 4, 5)

_WORD = re.compile(r"\w+|[^\w\s]")
_DIGIT = re.compile(r"\d")


def clip(text: str) -> str:
    """The part of a long prompt that is read: its beginning and its end."""
    return text if len(text) <= 2 * MAX_CHARS else f"{text[:MAX_CHARS]}\n{text[-MAX_CHARS:]}"


def normalize(text: str) -> str:
    """One spelling for what reads the same, cut to its beginning and its end."""
    text = clip(text)
    if text.isascii():
        return text.lower()
    # Folding takes some letters apart again, hence the second normalization.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def words_of(normalized: str) -> list[str]:
    """Words and marks, every digit as 0; of a long text the first and the last."""
    words = _WORD.findall(_DIGIT.sub("0", normalized))
    half = MAX_WORDS // 2
    return words if len(words) <= MAX_WORDS else words[:half] + words[-half:]


def bag_of(text: str, num_buckets: int) -> list[int]:
    """Bucket of every feature, repetitions kept; empty for a text without words. `num_buckets` is a power of two."""
    words = words_of(normalize(text))
    mask = num_buckets - 1
    found = [bucket & mask for word in words for bucket in _of_word(word)]
    found.extend(zlib.crc32(f"{one} {two}".encode()) & mask for one, two in pairwise(words))
    return found


@lru_cache(maxsize=16384)
def _of_word(word: str) -> tuple[int, ...]:
    """Hashes of a word and its pieces. The cache is bounded, and its entries are by MAX_WORD_CHARS."""
    if len(word) > MAX_WORD_CHARS:
        word = word[:MAX_WORD_CHARS]
    whole = zlib.crc32(f"={word}".encode())
    if not word[0].isalnum():
        return (whole,)
    marked = f"<{word}>"
    pieces = (marked[i : i + n] for n in PIECES for i in range(len(marked) - n + 1))
    return (whole, *(zlib.crc32(piece.encode()) for piece in pieces))
