"""Text to ids and back, at the edge: the engine's loop never touches text."""

import codecs
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TypeAlias

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.errors import ThinkingUnsupported, TokenizerUnreadable
from engine.model.config import read_config
from engine.request import Thinking

MAX_SHRINKING = 4
"""How many times fewer bytes a text may have once it is normalized; NFC leaves at least a third."""


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
        self.max_token_bytes = _max_token_bytes(hf)
        """No token stands for more bytes of UTF-8 of a text than this."""
        self._added_tokens = frozenset(hf.get_added_vocab())
        self._byte_of = _byte_alphabet()
        self._special_ids = frozenset(hf.all_special_ids)
        self._shown_bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """From files on disk only. Raises UnsupportedModel and TokenizerUnreadable."""
        eos_ids = read_config(directory).eos_ids
        try:
            hf = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        except Exception as fault:  # the library has no class for this: of a broken file it raises Exception itself
            raise TokenizerUnreadable(directory, str(fault) or type(fault).__name__) from fault
        if len(hf) <= len(hf.get_added_vocab()):  # what the library makes of no files at all
            raise TokenizerUnreadable(directory, "its files hold no vocabulary")
        return cls(hf, eos_ids)

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

    def thinking(self, prompt_ids: Sequence[int], is_wanted: bool, budget: int) -> Thinking | None:
        """How the model thinks after this prompt; None where it answers at once.

        The prompt decides, since templates differ: one closes the thinking that is not wanted, another opens it
        whatever is wanted. Raises ThinkingUnsupported where it is wanted and can not be.
        """
        marks = self._think_marks
        if marks is None:
            if is_wanted:
                raise ThinkingUnsupported("this base can not think: its tokenizer has no <think> and </think>")
            return None
        last = _last_of(marks, prompt_ids, self.eos_ids)
        if is_wanted and last == marks[1]:
            raise ThinkingUnsupported("this base can not think: its template closes the thinking in the prompt")
        if last == marks[1] or (last is None and not is_wanted):
            return None
        newline = tuple(self.hf.encode("\n", add_special_tokens=False))
        return Thinking(*marks, newline, self._after_close, budget, is_open=last is not None)

    @cached_property
    def _think_marks(self) -> tuple[int, int] | None:
        """The tokens that open and close the thinking."""
        added = self.hf.get_added_vocab()
        return (added["<think>"], added["</think>"]) if {"<think>", "</think>"} <= added.keys() else None

    @cached_property
    def _after_close(self) -> tuple[int, ...]:
        """What the template has behind the close where it closes; else an empty line."""
        assert self._think_marks is not None
        ids, (_, close) = self.encode_chat([("user", "x")]), self._think_marks
        place = len(ids) - ids[::-1].index(close) if close in ids else len(ids)
        return ids[place:] or tuple(self.hf.encode("\n\n", add_special_tokens=False))

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


def _max_token_bytes(hf: PreTrainedTokenizerBase) -> int:
    """From above: the vocabulary writes a byte as a character, which may itself be two bytes."""
    added = hf.get_added_vocab()
    longest = max((len(token.encode()) for token in hf.get_vocab() if token not in added), default=1)
    return longest * (MAX_SHRINKING if hf.backend_tokenizer.normalizer is not None else 1)


def _last_of(marks: tuple[int, int], prompt_ids: Sequence[int], ends: frozenset[int]) -> int | None:
    """The last mark behind the last turn that has ended: what earlier turns thought is over."""
    open_turn = takewhile(lambda token: token not in ends, reversed(prompt_ids))
    return next((token for token in open_turn if token in marks), None)


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
