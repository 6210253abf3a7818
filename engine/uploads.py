"""Orders adapter copies against steps. On CUDA each request copies on a stream of its own; on a CPU copies just happen.

A copy waits for the last step that may read the slot, and the next step waits for the copy: events, no host waits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.plan import Upload


@dataclass(frozen=True, slots=True)
class TimedCopy:
    """A copy on a stream, between two events."""

    upload: Upload
    begin: torch.cuda.Event
    end: torch.cuda.Event


class Uploader:
    """Used by the engine thread alone."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._step_done: torch.cuda.Event | None = None
        self._streams: dict[int, torch.cuda.Stream] = {}
        self._copies: list[TimedCopy] = []
        self._seconds: list[tuple[Upload, float]] = []

    def run(self, upload: Upload, copy: Callable[[], None]) -> None:
        """Perform `copy`, on CUDA on the stream of its request."""
        if not self._cuda:
            began = time.perf_counter()
            copy()
            self._seconds.append((upload, time.perf_counter() - began))
            return
        stream = self._streams.setdefault(upload.sequence_id, torch.cuda.Stream())
        if self._step_done:
            stream.wait_event(self._step_done)
        timed = TimedCopy(upload, *(torch.cuda.Event(enable_timing=True) for _ in range(2)))
        with torch.cuda.stream(stream):
            timed.begin.record()
            copy()
            timed.end.record()
        self._copies.append(timed)

    def join(self) -> None:
        """Let the coming step wait for all copies."""
        for stream in self._streams.values():
            torch.cuda.current_stream().wait_stream(stream)
        self._streams.clear()

    def mark_step(self) -> None:
        """Remember the end of the step that was just enqueued."""
        if self._cuda:
            self._step_done = torch.cuda.Event()
            self._step_done.record()

    def finished(self) -> list[tuple[Upload, float]]:
        """The upload and the seconds of each copy that has ended since the last call; on CUDA the device's own time.

        Asks and does not wait: a copy that still runs is told of by a later call.
        """
        ended = [copy for copy in self._copies if copy.end.query()]
        self._copies = [copy for copy in self._copies if copy not in ended]
        seconds = [*self._seconds, *((copy.upload, copy.begin.elapsed_time(copy.end) / 1e3) for copy in ended)]
        self._seconds = []
        return seconds
