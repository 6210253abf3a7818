"""The only file that calls llama.cpp: a vocabulary without weights, and grammar samplers over it.

Owns the native memory: each object frees its own exactly once, on `close` or when it is collected. llama.cpp
aborts the whole process where Python would raise, so nothing here may be called unverified: see
`Sampler.accept`. Called by `vocabulary`, `compiler` and `matcher`; no llama.cpp type leaves this room.
"""

import ctypes
import os
import weakref
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# llama.cpp reads this as it loads, and would otherwise attach a debugger to a dying process.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")

import llama_cpp

from grammars.errors import GrammarClosed, GrammarInvalid, VocabularyInvalid
from grammars.native_state import StateReader

_CANDIDATE: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_MAX_PIECE_BYTES: Final = 1024


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator]
def _silence(_level: int, _text: bytes, _user_data: int) -> None:
    """Drops llama.cpp's log. Lives as long as the process: the library has but a bare pointer to it."""


llama_cpp.llama_log_set(_silence, None)


class NativeVocab:
    """The tokens of a vocab-only GGUF file. Read-only, so threads may share it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not model:
            raise VocabularyInvalid(f"llama.cpp can not read {path}")
        self._free = weakref.finalize(self, llama_cpp.llama_model_free, model)
        self.pointer = llama_cpp.llama_model_get_vocab(model)
        self.num_tokens = int(llama_cpp.llama_vocab_n_tokens(self.pointer))
        self.end_id = int(llama_cpp.llama_vocab_eos(self.pointer))

    @property
    def is_open(self) -> bool:
        return self._free.alive

    def text_pieces(self) -> dict[int, bytes]:
        """The bytes of every token that stands for text: no special, no unused and no empty one.

        Nor one whose spelling (`</s>`) makes llama.cpp take it for an end: it would never match as text.
        """
        buffer = ctypes.create_string_buffer(_MAX_PIECE_BYTES)
        pieces: dict[int, bytes] = {}
        for token_id in range(self.num_tokens):
            is_normal = llama_cpp.llama_vocab_get_attr(self.pointer, token_id) & llama_cpp.LLAMA_TOKEN_ATTR_NORMAL
            if not is_normal or llama_cpp.llama_vocab_is_eog(self.pointer, token_id):
                continue
            size = llama_cpp.llama_token_to_piece(self.pointer, token_id, buffer, _MAX_PIECE_BYTES, 0, True)
            if size < 0:
                raise VocabularyInvalid(f"token {token_id} has {-size} bytes; the limit is {_MAX_PIECE_BYTES}")
            if size:
                pieces[token_id] = buffer.raw[:size]
        return pieces

    def tokenize(self, text: str) -> list[int]:
        """The text's tokens, special ones by their spelling; more than two are cut to none."""
        found = (llama_cpp.llama_token * 2)()
        raw = text.encode()
        count = llama_cpp.llama_tokenize(self.pointer, raw, len(raw), found, len(found), False, True)
        return list(found[: max(count, 0)])

    def is_end(self, token_id: int) -> bool:
        """llama.cpp takes it for an end of generation; the file's own end id is not the only one."""
        return bool(llama_cpp.llama_vocab_is_eog(self.pointer, token_id))

    def close(self) -> None:
        self._free()


class Sampler:
    """One state of one grammar in llama.cpp. Not for two threads at once."""

    __slots__ = ("__weakref__", "_batch", "_batch_ref", "_free", "_one", "_pointer", "_reader", "_source", "_vocab")

    def __init__(self, vocab: NativeVocab, pointer: object, source: tuple[bytes, bytes]) -> None:
        """`source` is the grammar's text and root."""
        self._vocab = vocab
        self._pointer = pointer
        self._source = source
        self._free = weakref.finalize(self, llama_cpp.llama_sampler_free, pointer)
        self._one = llama_cpp.llama_token_data(0, 0.0, 0.0)
        self._batch = llama_cpp.llama_token_data_array(ctypes.pointer(self._one), 1, -1, False)
        self._batch_ref = ctypes.byref(self._batch)
        self._reader = StateReader.of(_address(pointer), _address(vocab.pointer), *source)

    @classmethod
    def parse(cls, vocab: NativeVocab, gbnf: str, root: str) -> "Sampler":
        if not gbnf or "\0" in gbnf + root:  # llama.cpp takes no text for no limits, and reads up to a NUL
            raise GrammarInvalid("it is empty or contains a NUL character")
        if not vocab.is_open:
            raise GrammarClosed
        pointer = llama_cpp.llama_sampler_init_grammar(vocab.pointer, gbnf.encode(), root.encode())
        if not pointer:
            raise GrammarInvalid(f"llama.cpp refuses its syntax, a rule, a left recursion or the root {root!r}")
        return cls(vocab, pointer, (gbnf.encode(), root.encode()))

    @property
    def reader(self) -> StateReader | None:
        """Looks into the state; None where this build of llama.cpp can not be read."""
        self._check_open()
        return self._reader

    def clone(self) -> "Sampler":
        self._check_open()
        return Sampler(self._vocab, llama_cpp.llama_sampler_clone(self._pointer), self._source)

    def allows(self, token_id: int) -> bool:
        self._check_open()
        self._one.id = token_id  # type: ignore[assignment]  # ctypes converts on assignment
        self._one.logit = 0.0
        llama_cpp.llama_sampler_apply(self._pointer, self._batch_ref)
        return bool(self._one.logit == 0.0)  # -inf where forbidden

    def allows_each(self, token_ids: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        self._check_open()
        rows = np.zeros(len(token_ids), _CANDIDATE)
        rows["id"] = token_ids
        data = ctypes.cast(rows.ctypes.data, llama_cpp.llama_token_data_p)
        batch = llama_cpp.llama_token_data_array(data, len(rows), -1, False)
        llama_cpp.llama_sampler_apply(self._pointer, ctypes.byref(batch))
        allowed: NDArray[np.bool_] = rows["logit"] == 0.0
        return allowed

    def accept(self, token_id: int) -> None:
        """Advances by a token that `allows` has just permitted. Any other one aborts the process."""
        self._check_open()
        llama_cpp.llama_sampler_accept(self._pointer, token_id)

    def close(self) -> None:
        self._free()

    def _check_open(self) -> None:
        if not (self._free.alive and self._vocab.is_open):
            raise GrammarClosed


def _address(pointer: object) -> int:
    address = ctypes.cast(pointer, ctypes.c_void_p).value  # type: ignore[arg-type]
    assert address, "llama.cpp gave a pointer that it should not have"
    return address
