"""Forced text as the model's own tokenizer spells it, and how much of that is certain before it is known what follows.

The token boundary problem: a text's last tokens may be others once more text is behind them. So of a forced text only
those tokens are taken that it has whatever follows; the rest is left to the model. A token is certain if it ends

- where a piece of the pre-tokenizer ends, before the end of the text and of what is not white space in it. Qwen's
  pattern matches pieces from left to right, and whether a piece ends there hangs on the next character alone, but for
  runs of white space, whose last line feed and last space hang on where they end; or
- at the end of the text, if that does not end in white space and no token of the vocabulary that runs over it goes on
  with a character that may follow. Byte-pair merges make tokens of the vocabulary, so none of them crosses that place,
  and what merges on its left (Sennrich et al. 2016: pairs by rank) does not hang on its right.

And the text must be spelled with a boundary where the tokens that were accepted end. Where the model has chosen to end
a token elsewhere than its tokenizer would, nothing is taken until the two agree again.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from grammars.forced import Forced
from grammars.token_table import Ranges

if TYPE_CHECKING:
    from tokenizers import Tokenizer

QWEN_PATTERN: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WINDOW: Final = 32
"""Tokens before the forced text that are spelled with it."""
_MAX_FOLLOWERS: Final = 64
"""Of more, one is going to extend some token."""


class Tokenization:
    """Of one tokenizer, byte-level BPE with Qwen's pre-tokenizer. Read-only, so threads may share it."""

    def __init__(self, backend: "Tokenizer", pieces: dict[int, bytes]) -> None:
        """`pieces` are the bytes of all tokens that stand for text."""
        self._backend, self._pieces = backend, pieces
        self._sorted = sorted(set(pieces.values()))
        self._longest = max(map(len, self._sorted), default=0)

    @classmethod
    def of(cls, backend: "Tokenizer", pieces: dict[int, bytes]) -> "Tokenization | None":
        """None for a tokenizer that the rule above was not thought out for."""
        return cls(backend, pieces) if _is_known(json.loads(backend.to_str())) else None

    def certain_tokens(self, accepted: Sequence[int], forced: Forced) -> list[int]:
        """The tokens of the forced text behind the accepted ones that it has whatever follows it."""
        before = self._text_of(accepted[-WINDOW:])
        if before is None:
            return []
        text = before + forced.text
        ids = self._backend.encode(text, add_special_tokens=False).ids
        sizes = [len(self._pieces.get(token, b"")) for token in ids]
        if 0 in sizes or sum(sizes) != len(text.encode()):
            return []  # the text names a special token, or its normal form is another text
        ends = [0, *accumulate(sizes)]
        start, certain = len(before.encode()), len(text[: self._certain_end(text, forced.followers)].encode())
        if start not in ends:
            return []
        first = ends.index(start)
        return ids[first : max(first, bisect_right(ends, certain) - 1)]

    def _text_of(self, tokens: Sequence[int]) -> str | None:
        """Of those from the last special token and the first whole character on; None inside a character."""
        raw = b""
        for token in reversed(tokens):
            if token not in self._pieces:
                break
            raw = self._pieces[token] + raw
        while raw and raw[0] & 0xC0 == 0x80:
            raw = raw[1:]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return None

    def _certain_end(self, text: str, followers: Ranges | None) -> int:
        """The last place where a token that ends there is certain; 0 if there is none."""
        num_solid = len(text.rstrip())
        if followers == () or (num_solid == len(text) and self._is_border(text, followers)):
            return len(text)
        split = self._backend.pre_tokenizer
        assert split is not None
        ends = [end for _, (_, end) in split.pre_tokenize_str(text)]
        return max((end for end in ends if end <= num_solid and end < len(text)), default=0)

    def _is_border(self, text: str, followers: Ranges | None) -> bool:
        """No token runs over the end of the text into what may follow."""
        firsts = _first_bytes(followers)
        if firsts is None:
            return False
        raw = text.encode()[-self._longest :]
        return not any(
            self._begins_token(raw[start:]) and any(self._begins_token(raw[start:] + first) for first in firsts)
            for start in range(len(raw))
        )

    def _begins_token(self, raw: bytes) -> bool:
        place = bisect_left(self._sorted, raw)
        return place < len(self._sorted) and self._sorted[place].startswith(raw)


def _first_bytes(followers: Ranges | None) -> list[bytes] | None:
    """Of the characters in UTF-8; None where they are too many or not known."""
    if followers is None or sum(high - low + 1 for low, high in followers) > _MAX_FOLLOWERS:
        return None
    codes = {code for low, high in followers for code in range(low, high + 1)}
    if any(0xD800 <= code < 0xE000 for code in codes):
        return None
    return sorted({chr(code).encode()[:1] for code in codes})


def _is_known(tokenizer: dict[str, Any]) -> bool:
    """Byte-level BPE with Qwen's pattern and, if any, with NFC, and nothing else that changes texts or merges."""
    model, splits = tokenizer["model"], (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", [])
    normalizer = tokenizer["normalizer"] or {"type": "NFC"}
    if len(splits) != 2 or model["type"] != "BPE" or normalizer["type"] != "NFC":
        return False
    if model.get("dropout") or model.get("ignore_merges") or model.get("byte_fallback"):
        return False
    split, letters = splits
    is_qwens = split.get("pattern") == {"Regex": QWEN_PATTERN} and split.get("behavior") == "Isolated"
    is_bare = letters["type"] == "ByteLevel" and not letters["add_prefix_space"] and not letters["use_regex"]
    return is_qwens and not split["invert"] and is_bare
