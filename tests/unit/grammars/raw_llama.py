"""llama.cpp's own word on a grammar, unprotected: asked in a process that may hang or die of it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Literal

from grammars.errors import GrammarInvalid
from grammars.native import NativeVocab, Sampler

Word = Literal["accepted", "refused", "dead"]
ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 2.0
PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tests.unit.grammars.raw_llama import main; main(sys.argv[2:])"
)


def main(arguments: list[str]) -> None:
    connection = Connection(int(arguments[0]))
    vocab = NativeVocab(Path(arguments[1]))
    connection.send_bytes(b"ready")
    while True:
        try:
            gbnf = connection.recv_bytes()
        except (EOFError, OSError):
            return
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            Sampler.parse(vocab, gbnf.decode(), "root").close()
            word = b"accepted"
        except GrammarInvalid:
            word = b"refused"
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(word)


class RawLlama:
    """Started again whenever a grammar has ended it."""

    def __init__(self, vocabulary: Path) -> None:
        self._vocabulary = vocabulary
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self.num_deaths = 0

    def word_on(self, gbnf: str) -> Word:
        connection = self._connection or self._start()
        try:
            connection.send_bytes(gbnf.encode())
            return "accepted" if connection.recv_bytes() == b"accepted" else "refused"
        except (EOFError, OSError):
            self.num_deaths += 1
            self.close()
            return "dead"

    def _start(self) -> Connection:
        self._connection, theirs = Pipe()
        arguments = [sys.executable, "-c", PROGRAM, str(ROOT), str(theirs.fileno()), str(self._vocabulary)]
        self._process = subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
        theirs.close()
        assert self._connection.recv_bytes() == b"ready"
        return self._connection

    def close(self) -> None:
        if self._connection is not None and self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()
        self._connection = self._process = None


@contextmanager
def raw_llama(vocabulary: Path) -> Iterator[RawLlama]:
    raw = RawLlama(vocabulary)
    try:
        yield raw
    finally:
        raw.close()
