"""Owns every tensor: executes a StepPlan's uploads and its forward pass. Decides nothing."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.config import EngineConfig
from engine.model.delta import Delta, Mixtures
from engine.model.layers import StepInputs
from engine.model.transformer import Transformer
from engine.plan import Row, StepPlan, Upload
from engine.tier_stats import Holding
from engine.uploads import Uploader

T = TypeVar("T")


class Runner:
    """Used by the engine thread alone."""

    def __init__(self, config: EngineConfig, model: Transformer) -> None:
        self.config, self.model = config, model
        self.device = model.input_device
        self.uploader = Uploader(torch.device(config.device))
        self.held: dict[int, Holding] = {}
        """slot -> the expert in it."""

    def upload(self, upload: Upload, delta: Delta) -> None:
        """Copy an adapter into its slot; `uploader.finished` tells how long that took."""
        self.uploader.run(upload, partial(self.model.load_slot, upload.slot, delta))
        self.held[upload.slot] = Holding(delta.generation, delta.name, delta.num_bytes)

    def clear(self, slot: int) -> None:
        """Empty a slot; on a CPU its pages go back to the system."""
        self.model.clear_slot(slot)
        del self.held[slot]

    @torch.inference_mode()
    def forward(self, plan: StepPlan) -> Tensor:
        """Logits fp32 [sampling rows, vocab] on the CPU, in the order of the plan's sampling rows."""
        self.uploader.join()
        logits = self.model.forward(self._inputs(plan.rows))
        if self.config.num_tokens:
            logits[:, self.config.num_tokens :] = -torch.inf
        logits = logits.cpu()
        self.uploader.mark_step()
        return logits

    def _inputs(self, rows: tuple[Row, ...]) -> StepInputs:
        """In NumPy, which unlike torch keeps the interpreter for such small things: each time that it is let go of, the
        event loop may take it, and this thread waits."""
        begins = (0, *accumulate(len(row.token_ids) for row in rows))
        return StepInputs(
            ids=self._tensor(np.array([token for row in rows for token in row.token_ids])),
            positions=self._tensor(
                np.array([n for row in rows for n in range(row.start, row.start + len(row.token_ids))])
            ),
            begins=begins,
            starts=tuple(row.start for row in rows),
            tables=self._tensor(np.array(padded([row.block_table for row in rows], 0), np.int32)),
            sampled=self._tensor(
                np.array([end - 1 for row, end in zip(rows, begins[1:], strict=True) if row.samples], np.int64)
            ),
            mixtures=self._mixtures(rows),
        )

    def _mixtures(self, rows: tuple[Row, ...]) -> Mixtures:
        counts = [len(row.token_ids) for row in rows]
        slots = np.array(padded([[slot for slot, _ in row.mixture] for row in rows], -1), np.int32)
        weights = np.array(padded([[weight for _, weight in row.mixture] for row in rows], 0.0), np.float32)
        present = tuple(sorted({slot for row in rows for slot, _ in row.mixture}))
        return Mixtures(self._tensor(slots.repeat(counts, 0)), self._tensor(weights.repeat(counts, 0)), present)

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)


def padded(lines: Sequence[Sequence[T]], filler: T) -> list[list[T]]:
    """Lines of one length."""
    longest = max(map(len, lines))
    return [[*line, *[filler] * (longest - len(line))] for line in lines]
