"""The process in which a stranger's grammar is tried: admitted, searched for bad texts, compiled, run for some steps.

Started by `trial` and by nobody else. It may be killed at any moment and may die of a grammar: it owns nothing but
memory, which is limited, and ends by itself when its parent does or an answer is overdue.
"""

import gc
import random
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import numpy as np

from grammars import growth
from grammars.admission import Admitted, admit
from grammars.errors import GrammarInvalid
from grammars.native import NativeVocab, Sampler

READY: Final = b"ready"
NUM_STEPS: Final = 12
"""Of a walk with the real matcher; at each, what may follow is asked of all long tokens or of a sample of all."""
_LONG_TOKEN_BYTES: Final = 8  # shorter ones can not multiply readings by much
_SAMPLE: Final = 512


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a grammar is refused and where; no reason where it is good."""

    reason: str = ""
    line: int | None = None
    column: int | None = None

    @property
    def is_good(self) -> bool:
        return not self.reason

    def write(self) -> bytes:
        return f"{self.line or 0} {self.column or 0} {self.reason}".encode(errors="replace")

    @classmethod
    def read(cls, message: bytes) -> "Verdict":
        line, column, reason = message.decode(errors="replace").split(" ", 2)
        return cls(reason, int(line) or None, int(column) or None)


class Examiner:
    """Judges grammars for one vocabulary."""

    def __init__(self, vocab: NativeVocab) -> None:
        pieces = vocab.text_pieces()
        long_pieces = {i: piece for i, piece in pieces.items() if len(piece) >= _LONG_TOKEN_BYTES}
        self._vocab = vocab
        self._ids = np.fromiter(pieces, np.int32)
        self._long_ids = np.fromiter(long_pieces, np.int32)
        self._texts = sorted(piece.decode(errors="replace") for piece in long_pieces.values())

    def judge(self, gbnf: str, root: str, max_bytes: int, is_searched: bool) -> Verdict:
        try:
            admitted = admit(gbnf, root, max_bytes)
            self._check_tokens(admitted)
            is_certain = not is_searched or growth.check(admitted, self._texts)
            sampler = Sampler.parse(self._vocab, gbnf, root)
        except GrammarInvalid as fault:
            return Verdict(fault.reason, fault.line, fault.column)
        if not is_certain:
            self._walk(sampler)
        sampler.close()
        return Verdict()

    def _check_tokens(self, admitted: Admitted) -> None:
        """The tokens that the grammar names are tokens here; llama.cpp would not say which one is none."""
        for token in admitted.lowered.tokens():
            if token.id is not None and token.id >= self._vocab.num_tokens:
                reason = f"there is no token {token.id}; the vocabulary has {self._vocab.num_tokens:,}"
                raise GrammarInvalid(reason, *token.place)
            if token.text is not None:
                try:
                    Sampler.parse(self._vocab, f"root ::= {token.text}", "root").close()
                except GrammarInvalid as fault:
                    reason = f"{token.text[:64]!r} is not one token of this vocabulary"
                    raise GrammarInvalid(reason, *token.place) from fault

    def _walk(self, sampler: Sampler) -> None:
        """Some steps at random. Nothing is concluded from them: what takes too long is ended from outside."""
        chance = random.Random(0)  # the same walk for the same grammar
        sampler.allows_each(self._long_ids)
        for _ in range(NUM_STEPS):
            drawn = np.array(chance.sample(range(len(self._ids)), min(_SAMPLE, len(self._ids))), np.int64)
            allowed = self._ids[drawn][sampler.allows_each(self._ids[drawn])]
            if not len(allowed):
                return
            sampler.accept(int(chance.choice(allowed.tolist())))


def serve(connection: Connection, examiner: Examiner, limit_s: float) -> None:
    """Answer texts until the parent closes the connection."""
    connection.send_bytes(READY)
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            return
        max_bytes, search, root, gbnf = request.decode().split("\0", 3)
        signal.setitimer(signal.ITIMER_REAL, 2 * limit_s + 1)  # the default action ends us, in native code too
        verdict = examiner.judge(gbnf, root, int(max_bytes), bool(search))
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(verdict.write())


def main(arguments: Sequence[str]) -> None:
    """The worker's whole life: connection's descriptor, vocabulary file, seconds for a text, bytes of memory."""
    descriptor, vocabulary, limit_s, memory_bytes = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's interrupt is for the server, which then ends us
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = Connection(int(descriptor))
    examiner = Examiner(NativeVocab(Path(vocabulary)))
    gc.freeze()  # a vocabulary is a million objects, none of which is ever garbage
    _limit_memory(int(memory_bytes))
    serve(connection, examiner, float(limit_s))


def _limit_memory(more_bytes: int) -> None:
    """Let the address space grow by so much and no further."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
