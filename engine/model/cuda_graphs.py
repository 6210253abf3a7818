"""Decode steps recorded as CUDA graphs, one for each number of rows and of experts in a row. It knows no model.

A step is recorded once and replayed with other inputs, which lie in buffers that never move. Adapters are part of what
is recorded, and a set without them spares the base their term. Slots keep their addresses, so that a hot swap needs no
new recording. Whoever replays sees to it that copies into slots wait for steps and steps for copies (`uploads.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class DecodeInputs:
    """One token in each row. Integers are int32: then all fields lie in one buffer, and one copy moves them."""

    ids: Tensor  # [rows]
    positions: Tensor  # [rows]
    write: Tensor
    """[rows] flat cache positions of the new keys and values."""
    lengths: Tensor
    """[rows] positions that a row sees, the new one among them; 0 for padding."""
    block_tables: Tensor  # [rows, blocks]
    token_slots: Tensor
    """[rows, experts], -1 for none."""
    token_weights: Tensor  # fp32 [rows, experts]

    @classmethod
    def within(cls, buffer: Tensor, rows: int, experts: int, blocks: int) -> Self:
        """Fields that share the int32 `buffer`, each from a multiple of 16 bytes on, where kernels can load widely."""
        parts, place = [], 0
        for columns in (1, 1, 1, 1, blocks, experts, experts):
            parts.append(buffer[place : place + rows * columns].view(rows, columns))
            place += -(-rows * columns // 4) * 4
        parts = [*(part.flatten() for part in parts[:4]), *parts[4:6], parts[6].view(torch.float32)]
        return cls(*parts)

    @staticmethod
    def buffer_size(rows: int, experts: int, blocks: int) -> int:
        """Integers that `within` needs."""
        return sum(-(-rows * columns // 4) * 4 for columns in (1, 1, 1, 1, blocks, experts, experts))

    def put(self, step: "DecodeInputs") -> None:
        """Copy a step into the first rows and columns."""
        for field in fields(self):
            source = getattr(step, field.name)
            getattr(self, field.name)[tuple(map(slice, source.shape))] = source


@dataclass(frozen=True, slots=True)
class Recording:
    """How to repeat a computation, and where its result lies after each time."""

    replay: Callable[[], None]
    result: Tensor


Recorder = Callable[[Callable[[], Tensor]], Recording]
"""Runs a computation of fixed addresses at least once, and says how to repeat it."""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A recorded step, and the memory through which it gets its inputs."""

    blank: Tensor
    """A step of padding alone, on the host."""
    staged: Tensor
    """The next step, on the host. Not pinned: a copy from it has read it when it returns."""
    fixed: Tensor
    """What the recording reads."""
    recording: Recording


class DecodeGraphs:
    """Replays `step`, which computes logits [rows, vocab] from its inputs alone, without asking for their values.

    `sizes` and `widths` are the numbers of rows and of experts in a row that are recorded, 0 experts being the base;
    `blocks` is the width of every block table and `scratch` the flat cache position that padding writes to.
    """

    def __init__(
        self,
        step: Callable[[DecodeInputs], Tensor],
        sizes: Sequence[int],
        widths: Sequence[int],
        blocks: int,
        scratch: int,
        device: torch.device,
        record: Recorder,
    ) -> None:
        self.sizes, self.widths, self.blocks = sorted(sizes), sorted(widths), blocks
        self._steps: dict[tuple[int, int], RecordedStep] = {}
        # The largest first: the smaller ones then fit into its memory.
        for rows in reversed(self.sizes):
            for experts in reversed(self.widths):
                blank = torch.zeros(DecodeInputs.buffer_size(rows, experts, blocks), dtype=torch.int32)
                padding = DecodeInputs.within(blank, rows, experts, blocks)
                padding.write.fill_(scratch)
                padding.token_slots.fill_(-1)
                fixed = blank.to(device, copy=True)
                inputs = DecodeInputs.within(fixed, rows, experts, blocks)
                recording = record(lambda inputs=inputs: step(inputs))  # type: ignore[misc]
                self._steps[rows, experts] = RecordedStep(blank, blank.clone(), fixed, recording)

    def run(self, inputs: DecodeInputs) -> Tensor:
        """Logits [rows, vocab] of a step whose inputs are on the host; they stay until the next call."""
        rows, experts = inputs.token_slots.shape
        if inputs.block_tables.shape[1] > self.blocks:
            raise ValueError(f"a table of {inputs.block_tables.shape[1]} blocks, recorded are {self.blocks}")
        size, width = _least(self.sizes, rows, "rows"), _least(self.widths, experts, "experts in a row")
        step = self._steps[size, width]
        step.staged.copy_(step.blank)
        DecodeInputs.within(step.staged, size, width, self.blocks).put(inputs)
        step.fixed.copy_(step.staged, non_blocking=True)
        step.recording.replay()
        return step.recording.result[:rows]


class CudaRecorder:
    """Records into CUDA graphs that share one pool of memory, since only one of them runs at a time."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], Tensor]) -> Recording:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Kernels are compiled and libraries take their workspaces now; while recording, they may not.
            for _ in range(2):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = run()
        return Recording(graph.replay, result)


def bucket_sizes(most: int) -> list[int]:
    """Numbers of rows to record for up to `most` rows: 1, 2, 4, then every eighth."""
    return sorted({size for size in (1, 2, 4, *range(8, most, 8)) if size < most} | {most})


def _least(choices: Sequence[int], needed: int, what: str) -> int:
    """The smallest of the ascending `choices` that is enough."""
    for choice in choices:
        if choice >= needed:
            return choice
    raise ValueError(f"a step with {needed} {what}, recorded are up to {choices[-1]}")
