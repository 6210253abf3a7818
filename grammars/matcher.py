"""One sequence's place in a grammar: which tokens may follow, and whether the text may end here.

The engine samples freely and asks `allows` for what it drew, so a step costs microseconds; `mask` is the slow
way out when a draw is refused. Verifying always precedes accepting, because llama.cpp ends the process on a
forbidden token. Owned by its sequence and used by one thread at a time; it holds native memory until `close`.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from grammars.errors import GrammarViolation
from grammars.native import Sampler
from grammars.vocabulary import Vocabulary


class Matcher:
    """Made by `CompiledGrammar.matcher`. Predicates never change its state; only `accept` does."""

    __slots__ = ("_is_finished", "_sampler", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, sampler: Sampler) -> None:
        self._vocabulary = vocabulary
        self._sampler = sampler
        self._is_finished = False

    @property
    def is_complete(self) -> bool:
        """The accepted text is a sentence of the grammar, so the end of sequence may follow."""
        return self._sampler.allows(self._vocabulary.native.end_id)

    @property
    def is_finished(self) -> bool:
        """The end of sequence was accepted; nothing may follow."""
        return self._is_finished

    @property
    def must_stop(self) -> bool:
        """The text is a sentence and nothing but the end of sequence may follow.

        Asks for the vocabulary's opening bytes only. Where a grammar negates a character beyond ASCII
        (`[^é]`), llama.cpp refuses its first byte alone; there we may stop early, still with a sentence.
        """
        if self._is_finished:
            return True
        return self.is_complete and not self._sampler.allows_each(self._vocabulary.opening_ids).any()

    def allows(self, token_id: int) -> bool:
        """False for special, unused and out-of-range ids; the end only where a sentence ends."""
        if self._is_finished or not 0 <= token_id < self._vocabulary.num_logits:
            return False
        if token_id in self._vocabulary.eos_ids:
            return self.is_complete
        return bool(self._vocabulary.is_text[token_id]) and self._sampler.allows(token_id)

    def first_allowed(self, token_ids: Sequence[int]) -> int | None:
        """The first id of the ranking that may follow: under greedy decoding the masked argmax."""
        return next((token_id for token_id in token_ids if self.allows(token_id)), None)

    def mask(self) -> NDArray[np.bool_]:
        """What `allows` says of every id, [num_logits]. Milliseconds on a large vocabulary."""
        mask: NDArray[np.bool_] = np.zeros(self._vocabulary.num_logits, np.bool_)
        if not self._is_finished:
            text_ids = self._vocabulary.text_ids
            mask[text_ids] = self._sampler.allows_each(text_ids)
            mask[list(self._vocabulary.eos_ids)] = self.is_complete
        return mask

    def accept(self, token_id: int) -> None:
        if not self.allows(token_id):
            raise GrammarViolation(token_id)
        if token_id in self._vocabulary.eos_ids:
            self._is_finished = True
        else:
            self._sampler.accept(token_id)

    def close(self) -> None:
        """Frees the native state; harmless when repeated."""
        self._sampler.close()
