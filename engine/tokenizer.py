"""Text to ids and back, at the edge: the engine's loop never touches text."""

import re
import secrets
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from engine.model.config import read_config

REPLACEMENT = "\ufffd"
MAX_SHRINKING = 4
"""How many times fewer bytes a text may have once it is normalized; NFC leaves at least a third."""


class Tokenizer:
    """The base's tokenizer and chat template. Text of a message never becomes a control token."""

    def __init__(self, hf: PreTrainedTokenizerBase, eos_ids: frozenset[int]) -> None:
        self.hf, self.eos_ids = hf, eos_ids
        added = sorted((re.escape(str(token)) for token in hf.get_added_vocab()), key=len, reverse=True)
        self._added = re.compile(f"(?=({'|'.join(added) or '(?!)'}))")
        self.max_token_bytes = _max_token_bytes(hf)
        """No token stands for more bytes of UTF-8 of a text than this."""

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """From files on disk only."""
        hf = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        return cls(hf, read_config(directory).eos_ids)

    def __len__(self) -> int:
        return len(self.hf)

    def encode_chat(self, messages: Sequence[tuple[str, str]], thinking: bool = False) -> tuple[int, ...]:
        """Ids of (role, content) messages up to where the assistant speaks.

        The template is rendered with a mark in place of each content; contents are encoded apart from it, as plain
        text, and put where the marks are.
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
            ids += self.encode_text(content)
        return tuple(ids + self.hf.encode(rendered, add_special_tokens=False))

    def encode_text(self, text: str) -> list[int]:
        """Plain text; what looks like an added token is only its letters.

        Every place where one begins is cut after its first character, so no piece holds a whole one. Asking the
        tokenizer to split special tokens is not enough: `<think>` and `<tool_call>` are added but not special.
        """
        cuts = [0, *(match.start() + 1 for match in self._added.finditer(text)), len(text)]
        pieces = [text[begin:end] for begin, end in pairwise(cuts)]
        return [token for piece in pieces for token in self.hf.encode(piece, add_special_tokens=False)]

    def decoder(self) -> "IncrementalDecoder":
        return IncrementalDecoder(self.hf)


def _max_token_bytes(hf: PreTrainedTokenizerBase) -> int:
    """From above: the vocabulary writes a byte as a character, which may itself be two bytes."""
    added = hf.get_added_vocab()
    longest = max((len(token.encode()) for token in hf.get_vocab() if token not in added), default=1)
    return longest * (MAX_SHRINKING if hf.backend_tokenizer.normalizer is not None else 1)


class IncrementalDecoder:
    """Ids in, text out as soon as it is certain: a character split over tokens appears with its last one."""

    def __init__(self, hf: PreTrainedTokenizerBase) -> None:
        self._hf = hf
        self._held: list[int] = []

    def push(self, token_id: int) -> str:
        self._held.append(token_id)
        text = self._decoded()
        if text.endswith(REPLACEMENT) and len(self._held) < 8:
            return ""
        self._held.clear()
        return text

    def flush(self) -> str:
        """What is left of an unfinished character."""
        text = self._decoded()
        self._held.clear()
        return text

    def _decoded(self) -> str:
        text = self._hf.decode(self._held, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert isinstance(text, str)
        return text
