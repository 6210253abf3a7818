"""Where a sequence stands between thinking and answering, told by token ids and never by text.

The grammar begins with the answer, and is never skipped: while the model may open its thinking, the first token is the
one that opens it or one that the grammar allows; inside, the draw is free; behind the close, the grammar holds. The
thinking ends when the model closes it, when its budget is used up, or when the model would end the whole sequence
there, which counts as closing. Only the first thinking is one: marks in the answer are the answer's own tokens.
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from engine.request import TextPart, Thinking, TokenConstraint, TokenMatcher

Taken = tuple[int, TextPart]
"""A token of the sequence, and which text it belongs to."""


class _State(Enum):
    BEFORE = "before"
    INSIDE = "inside"
    ANSWERING = "answering"


class ThinkingGate:
    """In front of one sequence's grammar, or of none. Only the scheduler moves it."""

    __slots__ = ("_matcher", "_num_thought", "_state", "_thinking")

    def __init__(self, thinking: Thinking, matcher: TokenMatcher | None) -> None:
        self._thinking, self._matcher = thinking, matcher
        self._state = _State.INSIDE if thinking.is_open else _State.BEFORE
        self._num_thought = 0

    @property
    def is_thinking(self) -> bool:
        return self._state is _State.INSIDE

    @property
    def is_answering(self) -> bool:
        return self._state is _State.ANSWERING

    @property
    def constraint(self) -> TokenConstraint | None:
        """What the next draw is held to."""
        if self._matcher is None or self.is_thinking:
            return None
        if self._state is _State.BEFORE:
            return _OrOpening(self._matcher, self._thinking.open_id)
        return self._matcher

    def take(self, token: int, is_end: bool, previous: int | None) -> list[Taken]:
        """What becomes of a drawn token: at least one token, with those that the engine puts behind or for it.

        `is_end` says that it would end the sequence, `previous` is the token before it.
        """
        if self._state is _State.BEFORE:
            is_opening = token == self._thinking.open_id
            self._state = _State.INSIDE if is_opening else _State.ANSWERING
            return [(token, TextPart.MARK if is_opening else TextPart.ANSWER)]
        if not self.is_thinking:
            return [(token, TextPart.ANSWER)]
        if token == self._thinking.close_id:
            return self._close(())
        if is_end:
            return self._close(self._before_close(previous))
        self._num_thought += 1
        thought = (token, TextPart.THINKING)
        if self._num_thought < self._thinking.budget:
            return [thought]
        return [thought, *self._close(self._before_close(token))]

    def _before_close(self, previous: int | None) -> tuple[int, ...]:
        before = self._thinking.before_close
        return () if before == (previous,) else before

    def _close(self, before: tuple[int, ...]) -> list[Taken]:
        self._state = _State.ANSWERING
        return [(token, TextPart.MARK) for token in (*before, self._thinking.close_id, *self._thinking.after_close)]


class _OrOpening:
    """What a grammar allows, and the token that opens the thinking."""

    def __init__(self, matcher: TokenMatcher, open_id: int) -> None:
        self._matcher, self._open_id = matcher, open_id

    def allows(self, token_id: int) -> bool:
        return token_id == self._open_id or self._matcher.allows(token_id)

    def allows_each(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        allowed: NDArray[np.bool_] = self._matcher.allows_each(token_ids) | (token_ids == self._open_id)
        return allowed

    def hot_mask(self) -> NDArray[np.bool_] | None:
        mask = self._matcher.hot_mask()
        return None if mask is None else self._with_opening(mask)

    def mask(self) -> NDArray[np.bool_]:
        return self._with_opening(self._matcher.mask())

    def _with_opening(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        opened = mask.copy()
        opened[self._open_id] = True
        return opened
