"""Owns every tensor: executes a StepPlan's uploads and its forward pass. Decides nothing."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import TypeVar

import torch
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
        begins = (0, *accumulate(len(row.token_ids) for row in rows))
        return StepInputs(
            ids=self._tensor([token for row in rows for token in row.token_ids]),
            positions=self._tensor([row.start + place for row in rows for place in range(len(row.token_ids))]),
            begins=begins,
            starts=tuple(row.start for row in rows),
            tables=self._tensor(padded([row.block_table for row in rows], 0), torch.int32),
            sampled=self._tensor([end - 1 for row, end in zip(rows, begins[1:], strict=True) if row.samples]),
            mixtures=self._mixtures(rows),
        )

    def _mixtures(self, rows: tuple[Row, ...]) -> Mixtures:
        counts = self._tensor([len(row.token_ids) for row in rows])
        slots = self._tensor(padded([[slot for slot, _ in row.mixture] for row in rows], -1), torch.int32)
        weights = self._tensor(padded([[weight for _, weight in row.mixture] for row in rows], 0.0), torch.float32)
        present = tuple(sorted({slot for row in rows for slot, _ in row.mixture}))
        return Mixtures(slots.repeat_interleave(counts, 0), weights.repeat_interleave(counts, 0), present)

    def _tensor(self, values: Sequence[object], dtype: torch.dtype = torch.long) -> Tensor:
        return torch.tensor(values, dtype=dtype, device=self.device)


def padded(lines: Sequence[Sequence[T]], filler: T) -> list[list[T]]:
    """Lines of one length."""
    longest = max(map(len, lines))
    return [[*line, *[filler] * (longest - len(line))] for line in lines]
