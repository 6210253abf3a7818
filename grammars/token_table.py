"""A vocabulary's text laid out so that a whole mask asks llama.cpp about few of its tokens. Knows no grammar.

What a grammar refuses, it refuses with anything behind it: a token is asked about only where the shorter ones that it
begins with may follow. And where any characters of a kind may follow, so may the tokens made of them; `runs` can tell.
"""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Ranges = tuple[tuple[int, int], ...]

FOREIGN: Final[Ranges] = ((0x80, 0x10FFFF),)
"""Every character beyond ASCII."""
PROSE: Final[Ranges] = ((0x20, 0x21), (0x23, 0x26), (0x28, 0x5B), (0x5D, 0x7E), *FOREIGN)
"""What nearly every string admits: all but quotes, backslash and control characters."""
LETTERS: Final[Ranges] = ((0x41, 0x5A), (0x61, 0x7A))
SMALL_LETTERS: Final[Ranges] = ((0x61, 0x7A),)
KINDS: Final = (PROSE, LETTERS, SMALL_LETTERS)
"""Each holds the next."""
ANY_LENGTH: Final = 254
_MIXED: Final = 255
_MAX_PREFIXES: Final = 3
"""That are asked about before a token; with more, the pieces of one question become too small."""


class TokenTable:
    def __init__(self, pieces: dict[int, bytes], num_logits: int) -> None:
        """`pieces` are the bytes of all tokens that stand for text."""
        texts = {token_id: _decoded(piece) for token_id, piece in pieces.items()}
        self._num_logits = num_logits
        self._lengths = [_lengths(texts, kind, num_logits) for kind in KINDS]
        shortest, *longer = _by_prefixes(pieces, texts)
        is_foreign = {token_id: (texts[token_id] or "a")[0] > "\x7f" for token_id in shortest}
        self._native = _ids(token_id for token_id in shortest if not is_foreign[token_id])
        self._foreign = _ids(token_id for token_id in shortest if is_foreign[token_id])
        self._longer = [(_ids(found), _ids(found.values())) for found in longer]

    def mask(self, ask: Callable[[Ids], Mask], run: Callable[[Ranges], int], takes_foreign: bool) -> Mask:
        """[num_logits], what `ask` says of each id; false for what is no text. Not for a state inside a character.

        `run` says how many characters of a kind may follow, whichever they are. `takes_foreign` is false only where
        no character beyond ASCII may follow.
        """
        mask: Mask = np.zeros(self._num_logits, np.bool_)
        for kind, lengths in zip(KINDS, self._lengths, strict=True):
            if length := run(kind):
                mask = lengths <= length
                break
        for ids in (self._native, self._foreign) if takes_foreign else (self._native,):
            unknown = ids[~mask[ids]]
            mask[unknown] = ask(unknown)
        for ids, prefixes in self._longer:
            unknown = ids[mask[prefixes] & ~mask[ids]]
            mask[unknown] = ask(unknown)
        return mask


def _by_prefixes(pieces: dict[int, bytes], texts: dict[int, str | None]) -> list[dict[int, int]]:
    """Ids by the number of shorter tokens that they begin with, each with the longest of those (itself if none).

    Only prefixes of whole characters count: llama.cpp may refuse half a character where it takes all of it.
    """
    found: list[dict[int, int]] = [{} for _ in range(_MAX_PREFIXES + 1)]
    chain: list[tuple[int, bytes]] = []
    for token_id, piece in sorted(pieces.items(), key=lambda item: item[1]):
        while chain and not piece.startswith(chain[-1][1]):
            chain.pop()
        prefixes = [shorter for shorter, other in chain[:_MAX_PREFIXES] if other != piece]
        found[len(prefixes)][token_id] = prefixes[-1] if prefixes else token_id
        if texts[token_id] is not None:
            chain.append((token_id, piece))
    return found


def _lengths(texts: dict[int, str | None], kind: Ranges, num_logits: int) -> NDArray[np.uint8]:
    """How many characters the tokens have that are wholly of the kind."""
    lengths = np.full(num_logits, _MIXED, np.uint8)
    others = {character: None for character in range(0x80) if not any(low <= character <= high for low, high in kind)}
    takes_foreign = kind[-1] == FOREIGN[0]
    for token_id, text in texts.items():
        if text and len(text) < ANY_LENGTH and (takes_foreign or text.isascii()):
            if len(text.translate(others)) == len(text):
                lengths[token_id] = len(text)
    return lengths


def _decoded(piece: bytes) -> str | None:
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return None


def _ids(ids: Iterable[int]) -> Ids:
    return np.fromiter(ids, np.int64)
