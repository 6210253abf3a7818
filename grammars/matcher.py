"""One sequence's place in a grammar: which tokens may follow, and whether the text may end here.

The engine samples freely and asks `allows` for what it drew, so a step costs microseconds; `mask` is the slow way out,
and is remembered by state for all matchers of the grammar. Verifying always precedes accepting, because llama.cpp ends
the process on a forbidden token. Owned by its sequence and used by one thread at a time; it holds native memory until
`close`.
"""

from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from grammars.errors import GrammarViolation
from grammars.forced import forced
from grammars.masks import MaskCache
from grammars.native import Sampler
from grammars.native_state import StateReader
from grammars.runs import Rules
from grammars.token_table import FOREIGN
from grammars.vocabulary import Vocabulary


class States:
    """What the matchers of one grammar share. Two grammars may share a cache: each has keys of its own."""

    __slots__ = ("_masks", "_rules")

    def __init__(self, masks: MaskCache) -> None:
        self._masks = masks
        self._rules: Rules | None = None

    def rules(self, reader: StateReader) -> Rules:
        """Of the grammar, by the reader of any of its matchers."""
        self._rules = self._rules or reader.rules()
        return self._rules

    def mask(self, state: Hashable, size: int) -> NDArray[np.bool_] | None:
        return self._masks.get((self, state), size)

    def remember(self, state: Hashable, mask: NDArray[np.bool_]) -> None:
        self._masks.put((self, state), mask)


class Matcher:
    """Made by `CompiledGrammar.matcher`. Predicates never change what may follow; only `accept` does."""

    __slots__ = (
        "_accepted",
        "_barred",
        "_is_complete",
        "_is_finished",
        "_mask",
        "_named_ids",
        "_sampler",
        "_states",
        "_verified",
        "_vocabulary",
    )

    def __init__(self, vocabulary: Vocabulary, sampler: Sampler, named_ids: frozenset[int], states: States) -> None:
        """`named_ids` are the tokens besides plain text that the grammar names."""
        self._vocabulary = vocabulary
        self._sampler = sampler
        self._named_ids = named_ids
        self._states = states
        self._is_finished = False
        self._accepted: list[int] = []
        self._verified: int | None = None
        """The token that llama.cpp permitted last, in this very state."""
        self._is_complete: bool | None = None
        self._mask: NDArray[np.bool_] | None = None
        self._barred: NDArray[np.int64] | None = None
        """Tokens that would make what was begun no UTF-8."""

    @property
    def is_complete(self) -> bool:
        """The accepted text is a sentence of the grammar, so the end of sequence may follow."""
        if self._is_complete is None:
            at_end = self._sampler.allows(self._vocabulary.native.end_id)
            reader = self._sampler.reader
            self._is_complete = at_end and not (reader and reader.is_mid_character)
        return self._is_complete

    @property
    def is_finished(self) -> bool:
        """The end of sequence was accepted; nothing may follow."""
        return self._is_finished

    @property
    def must_stop(self) -> bool:
        """The text is a sentence and nothing but the end of sequence may follow.

        Where llama.cpp's state can not be read, the vocabulary's opening bytes are asked for instead. There, where a
        grammar negates a character beyond ASCII (`[^é]`), whose first byte alone llama.cpp refuses, we may stop early,
        still with a sentence.
        """
        if self._is_finished:
            return True
        if not self.is_complete:
            return False
        if reader := self._sampler.reader:
            return not reader.can_go_on
        return not self._sampler.allows_each(self._vocabulary.opening_ids).any()

    def allows(self, token_id: int) -> bool:
        """False for out-of-range ids, and for special and unused ones unless the grammar names them here.

        The end is allowed only where a sentence ends.
        """
        if self._mask is not None:
            return 0 <= token_id < len(self._mask) and bool(self._mask[token_id])
        return self._is_verified(token_id)

    def allows_each(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """What `allows` says of each id within the logits, in one native call."""
        if self._mask is not None:
            return self._mask[token_ids]
        is_text = self._vocabulary.is_text[token_ids]
        allowed: NDArray[np.bool_] = np.zeros(len(token_ids), np.bool_)
        allowed[is_text] = not self._is_finished and self._sampler.allows_each(token_ids[is_text])
        if self._barred is not None:
            allowed &= ~np.isin(token_ids, self._barred)
        for place in np.flatnonzero(~is_text):
            allowed[place] = self._is_verified(int(token_ids[place]))
        return allowed

    def first_allowed(self, token_ids: Sequence[int]) -> int | None:
        """The first id of the ranking that may follow: under greedy decoding the masked argmax."""
        return next((token_id for token_id in token_ids if self.allows(token_id)), None)

    def hot_mask(self) -> NDArray[np.bool_] | None:
        """The mask where it is to be had for microseconds. Read only."""
        if self._mask is None:
            self._mask = self._states.mask(self._state(), self._vocabulary.num_logits)
        return self._mask

    def mask(self) -> NDArray[np.bool_]:
        """What `allows` says of every id, [num_logits]. Milliseconds on a large vocabulary. Read only.

        llama.cpp runs without Python's lock, so masks of several matchers may be made in threads.
        """
        if self.hot_mask() is None:
            self._mask = self._whole_mask()
            self._mask.flags.writeable = False
            self._states.remember(self._state(), self._mask)
        assert self._mask is not None
        return self._mask

    def accept(self, token_id: int) -> None:
        """Raises GrammarViolation for a token that is not allowed. llama.cpp's own word counts, never a cached mask."""
        if token_id != self._verified and not self._is_verified(token_id):
            raise GrammarViolation(token_id)
        if token_id in self._vocabulary.eos_ids:
            self._is_finished = True
        else:
            self._sampler.accept(token_id)
        self._accepted.append(token_id)
        self._verified = self._is_complete = self._mask = None
        self._barred = self._vocabulary.barred_after.get(token_id)

    def forced_tokens(self) -> list[int]:
        """Tokens that must follow, the model's own spelling of a text that every sentence goes on with.

        None where several texts may follow, where the tokens hang on what comes behind them (see `tokenization`), or
        where that is not known. They change nothing until they are accepted.
        """
        reader, tokenization = self._sampler.reader, self._vocabulary.tokenization
        if self._is_finished or reader is None or tokenization is None or not reader.is_forced:
            return []
        return tokenization.certain_tokens(self._accepted, forced(self._states.rules(reader), reader.stacks()))

    def close(self) -> None:
        """Frees the native state; harmless when repeated."""
        self._sampler.close()

    def _is_verified(self, token_id: int) -> bool:
        """`allows` by llama.cpp itself."""
        if self._is_finished or not 0 <= token_id < self._vocabulary.num_logits:
            return False
        if token_id in self._vocabulary.eos_ids:
            return self.is_complete
        if not self._vocabulary.is_text[token_id] and not self._is_named_here(token_id):
            return False
        if self._barred is not None and token_id in self._barred:
            return False
        is_allowed = self._sampler.allows(token_id)
        self._verified = token_id if is_allowed else self._verified
        return is_allowed

    def _is_named_here(self, token_id: int) -> bool:
        """A special token passes where its terminal is next, never by its text; see `terminals`."""
        reader = self._sampler.reader
        return token_id in self._named_ids and reader is not None and reader.expects(token_id)

    def _whole_mask(self) -> NDArray[np.bool_]:
        if self._is_finished:
            return np.zeros(self._vocabulary.num_logits, np.bool_)
        mask = self._text_mask()
        for token_id in (*self._vocabulary.eos_ids, *self._named_ids):
            mask[token_id] = self._is_verified(token_id)
        return mask

    def _text_mask(self) -> NDArray[np.bool_]:
        """Asks for few tokens where the state can be read, and else for all."""
        reader = self._sampler.reader
        if reader and not reader.is_mid_character:
            rules, stacks = self._states.rules(reader), reader.stacks()
            return self._vocabulary.table.mask(
                self._sampler.allows_each, partial(rules.run, stacks), rules.may_begin(stacks, FOREIGN)
            )
        mask: NDArray[np.bool_] = np.zeros(self._vocabulary.num_logits, np.bool_)
        mask[self._vocabulary.text_ids] = self._sampler.allows_each(self._vocabulary.text_ids)
        if self._barred is not None:
            mask[self._barred] = False
        return mask

    def _state(self) -> Hashable:
        """Equal for two matchers of one grammar only where they allow the same."""
        reader = self._sampler.reader
        where = reader.key() if reader else tuple(self._accepted)
        return self._is_finished, where
