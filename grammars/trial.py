"""Tries a stranger's grammar in a child process before this one compiles it: llama.cpp can not be stopped in a thread.

Owns one worker process, started ahead, kept for the next text, killed when it takes too long, and started anew. What
the worker does is in `trial_worker`; between the two go plain bytes. Safe under several threads, which take turns.
Called by `compiler`.
"""

import subprocess
import sys
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from threading import Lock
from typing import Final

from grammars.errors import GrammarInvalid, GrammarUntried
from grammars.gbnf import MAX_BYTES, check_text
from grammars.trial_worker import READY, Verdict

START_LIMIT_S: Final = 60.0  # loading a vocabulary takes one, on a busy machine several
_END_LIMIT_S: Final = 10.0
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from grammars.trial_worker import main; main(sys.argv[2:])"
)


class Trial:
    """The worker for one vocabulary file. `close` ends it; no text is tried after that."""

    def __init__(self, vocabulary: Path, limit_s: float = 1.0, memory_bytes: int = 512 << 20) -> None:
        """`limit_s` is for one text; the memory is what the worker may take beyond its vocabulary."""
        self._vocabulary = vocabulary
        self._limit_s = limit_s
        self._memory_bytes = memory_bytes
        self._lock = Lock()
        self._worker: _Worker | None = None
        self._is_closed = False

    @property
    def worker_id(self) -> int | None:
        """The process id of the worker, if one lives."""
        worker = self._worker
        return worker.process.pid if worker is not None and worker.process.poll() is None else None

    def start(self) -> None:
        """Start the worker without waiting for it. Harmless when repeated. Raises GrammarUntried."""
        with self._lock:
            self._living()

    def check(self, gbnf: str, root: str, max_bytes: int, is_searched: bool = True) -> None:
        """Raises GrammarInvalid for a text that must not be compiled, GrammarUntried where nothing can be tried.

        Without the search by `growth` for what is ours but for some names.
        """
        check_text(root, MAX_BYTES)
        check_text(gbnf, max_bytes)
        request = "\0".join((str(max_bytes), "search" * is_searched, root, gbnf)).encode()
        with self._lock:
            worker = self._living()
            try:
                verdict = worker.ask(request, self._limit_s)
            except (EOFError, OSError) as fault:
                with suppress(subprocess.TimeoutExpired):  # its own status, rather than that of our kill
                    worker.process.wait(_END_LIMIT_S / 10)
                self._end(worker)
                raise self._lost(worker) from fault
            if verdict is None:
                self._end(worker)
                reason = f"it takes longer than {self._limit_s:g} s to compile and to try"
                raise GrammarInvalid(reason, is_final=False)
        if not verdict.is_good:
            raise GrammarInvalid(verdict.reason, verdict.line, verdict.column)

    def close(self) -> None:
        """End the worker; harmless when repeated."""
        with self._lock:
            self._is_closed = True
            if self._worker is not None:
                self._end(self._worker)

    def _living(self) -> "_Worker":
        if self._is_closed:
            raise GrammarUntried("the trial is closed")
        if self._worker is not None and self._worker.process.poll() is not None:
            self._end(self._worker)  # it died between two texts, of nobody's grammar
        if self._worker is None:
            try:
                self._worker = _Worker(self._vocabulary, self._limit_s, self._memory_bytes)
            except OSError as fault:
                raise GrammarUntried(f"the process that tries it can not be started: {fault.strerror}") from fault
        return self._worker

    def _lost(self, worker: "_Worker") -> Exception:
        status = worker.process.returncode
        if not worker.is_ready:
            return GrammarUntried(f"the process that tries it ended with status {status} as it started")
        reason = f"llama.cpp fails on it (the process that tried it ended with status {status})"
        return GrammarInvalid(reason, is_final=False)

    def _end(self, worker: "_Worker") -> None:
        worker.end()
        self._worker = None


class _Worker:
    def __init__(self, vocabulary: Path, limit_s: float, memory_bytes: int) -> None:
        self._ours, theirs = Pipe()
        self.is_ready = False
        root = str(Path(__file__).resolve().parents[1])
        arguments = [str(theirs.fileno()), str(vocabulary), str(limit_s), str(memory_bytes)]
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, root, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # llama.cpp prints the whole grammar there
                pass_fds=[theirs.fileno()],
            )
        except OSError:
            self._ours.close()
            raise
        finally:
            theirs.close()

    def ask(self, request: bytes, limit_s: float) -> Verdict | None:
        """None where no answer came in time. Raises EOFError or OSError where the process is gone."""
        self._await_ready(self._ours)
        self._ours.send_bytes(request)
        return Verdict.read(self._ours.recv_bytes()) if self._ours.poll(limit_s) else None

    def _await_ready(self, connection: Connection) -> None:
        if not self.is_ready:
            self.is_ready = connection.poll(START_LIMIT_S) and connection.recv_bytes() == READY
            if not self.is_ready:
                raise TimeoutError("the worker is not ready")

    def end(self) -> None:
        """Kill it and wait until it is gone, so that no zombie stays."""
        self._ours.close()
        self.process.kill()
        self.process.wait(_END_LIMIT_S)
