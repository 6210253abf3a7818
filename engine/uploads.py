"""Orders adapter copies against steps. On CUDA each request copies on a stream of its own; on a CPU copies just happen.

A copy waits for the last step that may read the slot, and the next step waits for the copy: events, no host waits.
"""

from collections.abc import Callable

import torch


class Uploader:
    """Used by the engine thread alone."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._step_done: torch.cuda.Event | None = None
        self._streams: dict[int, torch.cuda.Stream] = {}

    def run(self, sequence_id: int, copy: Callable[[], None]) -> None:
        """Perform `copy`, on CUDA on the stream of its request."""
        if not self._cuda:
            copy()
            return
        stream = self._streams.setdefault(sequence_id, torch.cuda.Stream())
        if self._step_done:
            stream.wait_event(self._step_done)
        with torch.cuda.stream(stream):
            copy()

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
