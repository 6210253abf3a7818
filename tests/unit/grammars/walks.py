"""What the grammar tests share: feeding text to a matcher, and walking at random through a grammar."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from grammars.compiler import CompiledGrammar
from grammars.matcher import Matcher
from grammars.vocabulary import Vocabulary
from training.tasks import TASKS
from training.words import Words

SHARED_DATA = Path(__file__).parents[3].parent / "shared" / "data"


def shared(path: str) -> Path:
    """A data set that lies beside the repository; the test is skipped where it does not."""
    found = SHARED_DATA / path
    if not found.exists():
        pytest.skip(f"../shared/data/{path} is not here")
    return found


def answers(task: str, count: int = 150) -> list[str]:
    """What the expert of a task writes: strict answers from both sides of the split, each once."""
    found: dict[str, None] = {}
    for held_out in (False, True):
        words = Words(Random(1), ("ab", "cor", "ter"), held_out)
        found |= dict.fromkeys(TASKS[task](words).answer for _ in range(count))
    return list(found)


def spell(pieces: Mapping[int, bytes], text: bytes, longest: int = 64) -> list[int]:
    """Tokens that make up the text, each as long as it can be; `longest=1` spells it byte by byte."""
    ids = {piece: token_id for token_id, piece in pieces.items()}
    spelled, rest = [], text
    while rest:
        piece = next(rest[:end] for end in range(min(longest, len(rest)), 0, -1) if rest[:end] in ids)
        spelled.append(ids[piece])
        rest = rest[len(piece) :]
    return spelled


def feed(matcher: Matcher, token_ids: Iterable[int]) -> bool:
    """Accepts token by token; False as soon as one is forbidden."""
    for token_id in token_ids:
        if not matcher.allows(token_id):
            return False
        matcher.accept(token_id)
    return True


def is_sentence(matcher: Matcher, token_ids: Iterable[int]) -> bool:
    try:
        return feed(matcher, token_ids) and matcher.is_complete
    finally:
        matcher.close()


def walk(
    matcher: Matcher, vocabulary: Vocabulary, random: Random, closers: Sequence[int], budget: int = 60
) -> list[int]:
    """Random allowed tokens until the sentence ends; after `budget` of them, closers are preferred.

    Ends by the engine's rule (`must_stop`) or by a drawn end of sequence. Checks what holds at every step.
    """
    (eos_id,) = vocabulary.eos_ids
    taken: list[int] = []
    while not matcher.must_stop:
        mask = matcher.mask()
        assert mask.any(), "a dead end: nothing may follow, not even the end"
        assert mask[eos_id] == matcher.is_complete == matcher.allows(eos_id)
        assert len(taken) < budget + 1500, "the grammar does not end"
        may_end = matcher.is_complete and (len(taken) >= budget or random.random() < 0.2)
        closer = matcher.first_allowed(closers) if len(taken) >= budget else None
        drawn = int(random.choice(np.flatnonzero(mask).tolist())) if closer is None else closer
        matcher.accept(eos_id if may_end else drawn)
        if matcher.is_finished:
            break
        taken.append(drawn) if drawn != eos_id else None
    assert matcher.is_complete
    return taken


def text_of(pieces: Mapping[int, bytes], token_ids: Iterable[int]) -> str:
    """As the engine decodes: bytes that are no UTF-8 become replacement characters."""
    return b"".join(pieces[token_id] for token_id in token_ids).decode("utf-8", errors="replace")


def walked(
    grammar: CompiledGrammar,
    vocabulary: Vocabulary,
    pieces: Mapping[int, bytes],
    seed: int,
    prefix: str = "",
    closers: bytes = b"",
) -> str:
    """The text of a random walk that goes on from a prefix."""
    matcher = grammar.matcher()
    started = spell(pieces, prefix.encode())
    assert feed(matcher, started)
    try:
        taken = walk(matcher, vocabulary, Random(seed), spell(pieces, closers, longest=1), budget=50)
    finally:
        matcher.close()
    return text_of(pieces, started + taken)
