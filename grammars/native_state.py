"""Reads where a llama.cpp grammar sampler stands, which its C API keeps to itself.

Two samplers of one grammar with equal states accept the same tokens, however different their texts are: that is what
lets a mask be kept for every state (`[0-9]*` after one digit and after ten) and not for every text. It also tells which
token terminals are expected, whether anything but the end may follow, and what `runs` needs to know.

This is C++ memory, so nothing is believed unseen: a sampler is read only where vocabulary, grammar text and root lie
where they should and llama.cpp's own accessors agree. Anywhere else there is no reader, and callers do without.
Called by `native` alone.
"""

import ctypes
import struct
from collections.abc import Hashable
from typing import Final

import llama_cpp.llama_cpp
import numpy as np
from numpy.typing import NDArray

from grammars.runs import Rules, Stack

_WORD: Final = 8
_VECTOR: Final = 24  # begin, end, end of storage
_STRING: Final = 32  # data, length, 16 bytes of its own
_RULES: Final = _WORD
_STACKS: Final = _RULES + _VECTOR
_PARTIAL: Final = _STACKS + _VECTOR
_GRAMMAR: Final = _WORD + 2 * _STRING
_ACCESSORS: Final = {
    "_Z23llama_grammar_get_rulesPK13llama_grammar": _RULES,
    "_Z24llama_grammar_get_stacksP13llama_grammar": _STACKS,
}
_CHARACTER: Final = 3
_GOES_ON: Final = (5, 6)  # the class has a range, or further characters
_TOKEN: Final = 8  # the type of the element `<[id]>`


class StateReader:
    """Of one sampler, for as long as that lives."""

    __slots__ = ("_grammar", "_order", "_starts")

    def __init__(self, grammar: int) -> None:
        self._grammar = grammar
        self._starts: NDArray[np.uint64] | None = None
        self._order: NDArray[np.uint64] | None = None

    @classmethod
    def of(cls, sampler: int, vocab: int, gbnf: bytes, root: bytes) -> "StateReader | None":
        """By the addresses of a sampler of that grammar and of its vocabulary; None where this build differs."""
        if struct.calcsize("P") != _WORD:
            return None
        (_, context) = _words(sampler, 2)
        found_vocab, text, num_text = _words(context, 3)
        name, num_name = _words(context + _WORD + _STRING, 2)
        if (found_vocab, num_text, num_name) != (vocab, len(gbnf), len(root)):
            return None
        if ctypes.string_at(text, num_text) != gbnf or ctypes.string_at(name, num_name) != root:
            return None
        (grammar,) = _words(context + _GRAMMAR, 1)
        if _words(grammar, 1) != (vocab,) or not _is_laid_out(grammar):
            return None
        return cls(grammar)

    @property
    def is_mid_character(self) -> bool:
        """The last token ended inside a UTF-8 sequence."""
        _, num_remaining = self._partial()
        return bool(num_remaining)

    @property
    def can_go_on(self) -> bool:
        """Something other than the end may follow."""
        return any(begin != end for begin, end in self._stacks())

    @property
    def is_forced(self) -> bool:
        """One character alone may follow. Asked after every token, so it reads the least that tells."""
        found: set[bytes] = set()
        for begin, end in self._stacks():
            if begin == end:
                return False
            element = ctypes.string_at(_words(end - _WORD, 1)[0], _WORD + 4)
            kind, behind = struct.unpack("I4xI", element)
            found.add(element[:_WORD])
            if kind != _CHARACTER or behind in _GOES_ON or len(found) > 1:
                return False
        return bool(found) and not self.is_mid_character

    def expects(self, token_id: int) -> bool:
        """A token terminal that names this id is next."""
        terminal = struct.pack("II", _TOKEN, token_id)
        tops = (_words(end - _WORD, 1)[0] for begin, end in self._stacks() if begin != end)
        return any(ctypes.string_at(top, _WORD) == terminal for top in tops)

    def key(self) -> Hashable:
        """Equal for two samplers of one grammar only where they accept the same from here on."""
        # Between characters the bits of the last one are still there and mean nothing.
        return frozenset(self._relocated_stacks()), self._partial() if self.is_mid_character else None

    def stacks(self) -> list[Stack]:
        return [
            tuple((word >> 32, (word & 0xFFFFFFFF) // _WORD) for word in struct.unpack(f"{len(raw) // _WORD}Q", raw))
            for raw in self._relocated_stacks()
        ]

    def rules(self) -> Rules:
        """The same for every sampler of the grammar."""
        begin, end = _words(self._grammar + _RULES, 2)
        words = _words(begin, (end - begin) // _WORD)
        spans = zip(words[::3], words[1::3], strict=True)
        return Rules([list(struct.iter_unpack("II", ctypes.string_at(start, stop - start))) for start, stop in spans])

    def _partial(self) -> tuple[int, int]:
        """The bits of an unfinished UTF-8 sequence, and how many bytes it still lacks."""
        bits, num_remaining = struct.unpack("Ii", ctypes.string_at(self._grammar + _PARTIAL, _WORD))
        return bits, num_remaining

    def _stacks(self) -> list[tuple[int, int]]:
        begin, end = _words(self._grammar + _STACKS, 2)
        words = _words(begin, (end - begin) // _WORD)
        return list(zip(words[::3], words[1::3], strict=True))

    def _relocated_stacks(self) -> list[bytes]:
        """Each stack as eight bytes a place: the rule, and how many bytes into it."""
        spans = self._stacks()
        places = np.frombuffer(b"".join(ctypes.string_at(begin, end - begin) for begin, end in spans), np.uint64)
        raw = self._relocated(places).tobytes()
        stacks, place = [], 0
        for begin, end in spans:
            stacks.append(raw[place : place + end - begin])
            place += end - begin
        return stacks

    def _relocated(self, places: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Addresses of grammar elements as rule number and offset: every sampler has its own copy of the rules."""
        if self._starts is None or self._order is None:
            begin, end = _words(self._grammar + _RULES, 2)
            starts = np.array(_words(begin, (end - begin) // _WORD)[::3], np.uint64)
            self._order = np.argsort(starts).astype(np.uint64)
            self._starts = starts[self._order]
        rule = np.searchsorted(self._starts, places, "right") - 1
        return (self._order[rule] << np.uint64(32)) | (places - self._starts[rule])


def _words(address: int, count: int) -> tuple[int, ...]:
    return struct.unpack(f"{count}Q", ctypes.string_at(address, _WORD * count)) if count else ()


def _is_laid_out(grammar: int) -> bool:
    """llama.cpp's own accessors find rules and stacks where we do."""
    library = llama_cpp.llama_cpp._lib
    for name, offset in _ACCESSORS.items():
        accessor = getattr(library, name, None)
        if accessor is None:
            return False
        accessor.argtypes, accessor.restype = [ctypes.c_void_p], ctypes.c_void_p
        if accessor(grammar) != grammar + offset:
            return False
    return True
