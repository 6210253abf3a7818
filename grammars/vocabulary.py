"""A tokenizer as llama.cpp sees it: the GGUF file it is written to, and which token ids a grammar may ever
allow.

Knows byte-level BPE tokenizers with Qwen's pre-tokenizer, and nothing about models. The server opens one
vocabulary per process with `vocabulary_for`; the compiler and the matchers read it.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import gguf
import numpy as np
from numpy.typing import NDArray

from grammars import utf8
from grammars.errors import VocabularyInvalid
from grammars.native import NativeVocab
from grammars.token_table import TokenTable
from grammars.tokenization import Tokenization

if TYPE_CHECKING:  # named in signatures only; loading transformers takes seconds
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_LAYOUT: Final = 1  # raise it whenever write_vocab_gguf writes something else, so that cached files are not reused


class Vocabulary:
    """Tokens for the matchers. Read-only and shareable; close it after the last matcher."""

    def __init__(
        self,
        native: NativeVocab,
        num_logits: int,
        eos_ids: tuple[int, ...],
        special_ids: frozenset[int],
        backend: "Tokenizer | None" = None,
    ) -> None:
        barred = special_ids | set(eos_ids)
        found = native.text_pieces().items()
        pieces = {i: p for i, p in found if i < num_logits and i not in barred and utf8.is_part_of_text(p)}
        self.native = native
        self.num_logits = num_logits
        self.eos_ids = frozenset(eos_ids)
        self.text_ids: NDArray[np.int32] = np.fromiter(pieces, np.int32)
        self.is_text: NDArray[np.bool_] = np.zeros(num_logits, np.bool_)
        self.is_text[self.text_ids] = True
        self.barred_after = utf8.barred_after(pieces)
        """Of tokens that end inside a character, those that may not come next though llama.cpp lets them pass."""
        self.table = TokenTable(pieces, num_logits)
        self.tokenization = None if backend is None else Tokenization.of(backend, pieces)
        self.opening_ids: NDArray[np.int32] = np.fromiter(_openings(pieces), np.int32)

    @classmethod
    def open(
        cls,
        path: Path,
        num_logits: int,
        eos_ids: tuple[int, ...],
        special_ids: frozenset[int],
        backend: "Tokenizer | None" = None,
    ) -> "Vocabulary":
        """`num_logits` is the width of the model's output, which may exceed the tokens in the file.

        Without the tokenizer behind it no text is spelled, so no matcher of it forces tokens.
        """
        beyond = [i for i in eos_ids if not 0 <= i < num_logits]
        if beyond or not eos_ids:
            raise VocabularyInvalid(f"end-of-sequence ids {eos_ids} with {num_logits} logits")
        return cls(NativeVocab(path), num_logits, eos_ids, special_ids, backend)

    def close(self) -> None:
        self.native.close()


def vocabulary_for(
    tokenizer: "PreTrainedTokenizerBase", num_logits: int, eos_ids: tuple[int, ...], cache_dir: Path
) -> Vocabulary:
    """Opens the tokenizer's vocabulary; its file is written once and kept in `cache_dir`."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    identity = f"{_LAYOUT} {num_logits} {tokenizer.eos_token_id} {backend.to_str()}"
    path = cache_dir / f"vocabulary-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.gguf"
    if not path.exists():
        write_vocab_gguf(tokenizer, num_logits, path)
    return Vocabulary.open(path, num_logits, eos_ids, frozenset(backend.get_added_tokens_decoder()), backend)


def write_vocab_gguf(tokenizer: "PreTrainedTokenizerBase", num_logits: int, path: Path) -> None:
    """Writes the tokens without weights; ids that the tokenizer lacks are UNUSED, special ones CONTROL."""
    backend: Tokenizer = tokenizer.backend_tokenizer
    model = json.loads(backend.to_str())["model"]
    if model["type"] != "BPE":
        raise VocabularyInvalid(f"the tokenizer is of type {model['type']!r}; only byte-level BPE is known")
    if tokenizer.eos_token_id is None:  # llama.cpp would take token 11 instead
        raise VocabularyInvalid("the tokenizer has no end-of-sequence token")
    texts, types = _token_table(backend, num_logits)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".vocabulary-") as folder:
        draft = Path(folder) / path.name
        writer = gguf.GGUFWriter(draft, "qwen2")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list(texts)
        writer.add_token_types(types)
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
        writer.add_add_bos_token(False)
        writer.add_eos_token_id(tokenizer.eos_token_id)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        os.replace(draft, path)  # whoever reads the path finds the whole file or none


def _token_table(backend: "Tokenizer", num_logits: int) -> tuple[list[str], list[gguf.TokenType]]:
    tokens = backend.get_vocab(with_added_tokens=True)
    highest = max(tokens.values(), default=-1)
    if highest >= num_logits:
        raise VocabularyInvalid(f"the tokenizer has token id {highest}, the model {num_logits} logits")
    texts = [f"[UNUSED{i}]" for i in range(num_logits)]
    types = [gguf.TokenType.UNUSED] * num_logits
    for text, token_id in tokens.items():
        texts[token_id], types[token_id] = text, gguf.TokenType.NORMAL
    for token_id, added in backend.get_added_tokens_decoder().items():
        types[token_id] = gguf.TokenType.CONTROL if added.special else gguf.TokenType.USER_DEFINED
    return texts, types


def _openings(pieces: dict[int, bytes]) -> Iterable[int]:
    """The fewest tokens such that every token starts with the bytes of one: where none fits, nothing fits.

    In a byte-level vocabulary these are the 256 single bytes.
    """
    opening: bytes | None = None
    for token_id, piece in sorted(pieces.items(), key=lambda item: item[1]):
        if opening is None or not piece.startswith(opening):
            opening = piece
            yield token_id
