"""Text to ids and back, at the edge: the engine's loop never touches text."""

import codecs
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.model.config import read_config


@dataclass(frozen=True, slots=True)
class Markup:
    """Text of the server's own inside a message: added tokens in it are themselves."""

    text: str


Content: TypeAlias = str | tuple[str | Markup, ...]
"""Of a message: plain text, or plain text and markup in turns."""


class Tokenizer:
    """The base's tokenizer and chat template. Text of a message never becomes a control token."""

    def __init__(self, hf: PreTrainedTokenizerBase, eos_ids: frozenset[int]) -> None:
        self.hf, self.eos_ids = hf, eos_ids
        added = sorted((re.escape(str(token)) for token in hf.get_added_vocab()), key=len, reverse=True)
        self._added = re.compile(f"(?=({'|'.join(added) or '(?!)'}))")
        self._added_tokens = frozenset(hf.get_added_vocab())
        self._byte_of = _byte_alphabet()
        self._special_ids = frozenset(hf.all_special_ids)
        self._shown_bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """From files on disk only."""
        hf = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        return cls(hf, read_config(directory).eos_ids)

    def __len__(self) -> int:
        return len(self.hf)

    def encode_chat(self, messages: Sequence[tuple[str, Content]], thinking: bool = False) -> tuple[int, ...]:
        """Ids of (role, content) messages up to where the assistant speaks.

        The template is rendered with a mark in place of each content; contents are encoded apart from it, as plain
        text but for markup, and put where the marks are.
        """
        marks = [f"\u27e8{secrets.token_hex(16)}\u27e9" for _ in messages]
        rendered = self.hf.apply_chat_template(
            [{"role": role, "content": mark} for (role, _), mark in zip(messages, marks, strict=True)],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=thinking,
        )
        assert isinstance(rendered, str)
        ids: list[int] = []
        for mark, (_, content) in zip(marks, messages, strict=True):
            before, rendered = rendered.split(mark)
            ids += self.hf.encode(before, add_special_tokens=False)
            ids += self._encode_content(content)
        return tuple(ids + self.hf.encode(rendered, add_special_tokens=False))

    def encode_text(self, text: str) -> list[int]:
        """Plain text; what looks like an added token is only its letters.

        Every place where one begins is cut after its first character, so no piece holds a whole one. Asking the
        tokenizer to split special tokens is not enough: `<think>` and `<tool_call>` are added but not special.
        """
        cuts = [0, *(match.start() + 1 for match in self._added.finditer(text)), len(text)]
        pieces = [text[begin:end] for begin, end in pairwise(cuts)]
        return [token for piece in pieces for token in self.hf.encode(piece, add_special_tokens=False)]

    def decode(self, token_ids: Sequence[int]) -> str:
        """What the tokens say, special ones too. The ids are below the vocabulary's length."""
        text = self.hf.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of UTF-8 that a token stands for: often no whole character. None of an id without a token."""
        token = self.hf.convert_ids_to_tokens(token_id)
        if not isinstance(token, str):
            return b""
        if token in self._added_tokens:
            return token.encode()
        return bytes(self._byte_of[char] for char in token if char in self._byte_of)

    def decoder(self) -> "IncrementalDecoder":
        return IncrementalDecoder(self._shown)

    def _shown(self, token_id: int) -> bytes:
        """Nothing of special tokens."""
        if (spelled := self._shown_bytes.get(token_id)) is None:
            spelled = b"" if token_id in self._special_ids else self.token_bytes(token_id)
            self._shown_bytes[token_id] = spelled
        return spelled

    def _encode_content(self, content: Content) -> list[int]:
        if isinstance(content, str):
            return self.encode_text(content)
        ids: list[int] = []
        for part in content:
            if isinstance(part, Markup):
                ids += self.hf.encode(part.text, add_special_tokens=False)
            else:
                ids += self.encode_text(part)
        return ids


def _byte_alphabet() -> dict[str, int]:
    """Byte-level BPE writes a byte as a printable character: itself, or for the others the next from U+0100 on."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(256 + place): byte for place, byte in enumerate(others)}


class IncrementalDecoder:
    """Ids in, text out as soon as it is certain: a character split over tokens appears with its last one."""

    def __init__(self, spelled: Callable[[int], bytes]) -> None:
        """`spelled` gives the bytes that a token shows."""
        self._spelled = spelled
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(self._spelled(token_id))

    def flush(self) -> str:
        """What is left of an unfinished character."""
        return self._decoder.decode(b"", final=True)
