"""Owns every tensor: executes a StepPlan's uploads and its forward pass. Decides nothing."""

import time
from functools import partial

import torch
from torch import Tensor

from engine.config import EngineConfig
from engine.model.delta import Delta, Mixtures
from engine.model.layers import PrefillSpan, StepContext
from engine.model.transformer import Transformer
from engine.plan import Row, StepPlan, Upload
from engine.uploads import Uploader


class Runner:
    """Used by the engine thread alone."""

    def __init__(self, config: EngineConfig, model: Transformer) -> None:
        self.config, self.model = config, model
        self.device = torch.device(config.device)
        self.uploader = Uploader(self.device)
        self.names: dict[int, str] = {}
        """slot -> name of the expert in it."""

    def upload(self, upload: Upload, delta: Delta) -> float:
        """Copy an adapter into its slot; returns the seconds that this held up the engine thread."""
        began = time.perf_counter()
        self.uploader.run(upload.sequence_id, partial(self.model.load_slot, upload.slot, delta))
        self.names[upload.slot] = delta.name
        return time.perf_counter() - began

    @torch.inference_mode()
    def forward(self, plan: StepPlan) -> Tensor:
        """Logits fp32 [sampling rows, vocab] on the CPU, in the order of the plan's sampling rows."""
        self.uploader.join()
        ids = self._tensor([token for row in plan.rows for token in row.token_ids])
        last = [end - 1 for row, (_, end) in zip(plan.rows, spans(plan.rows), strict=True) if row.samples]
        logits = self.model.forward(ids, self._context(plan.rows), self._mixtures(plan.rows), self._tensor(last))
        if self.config.num_tokens:
            logits[:, self.config.num_tokens :] = -torch.inf
        logits = logits.cpu()
        self.uploader.mark_step()
        return logits

    def _tensor(self, values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    def _mixtures(self, rows: tuple[Row, ...]) -> Mixtures:
        slots = sorted({slot for row in rows for slot, _ in row.mixture})
        weights = [[dict(row.mixture).get(slot, 0.0) for slot in slots] for row in rows]
        counts = self._tensor([len(row.token_ids) for row in rows])
        per_row = torch.tensor(weights, dtype=self.model.prompts.dtype, device=self.device).view(len(rows), len(slots))
        return Mixtures(tuple(slots), per_row.repeat_interleave(counts, 0))

    def _context(self, rows: tuple[Row, ...]) -> StepContext:
        positions = self._tensor([p for row in rows for p in range(row.start, row.start + len(row.token_ids))])
        cos, sin = self.model.rotary.at(positions)
        prefill, single, contexts, write = [], [], [], []
        for row, (begin, end) in zip(rows, spans(rows), strict=True):
            length = row.start + end - begin
            cache = self._cache_positions(row, length)
            write += cache[row.start :]
            if end - begin == 1:
                single.append(begin)
                contexts.append(cache)
            else:
                mask = torch.ones(end - begin, length, dtype=torch.bool, device=self.device).tril(row.start)
                prefill.append(PrefillSpan(begin, end, self._tensor(cache), mask))
        longest = max(map(len, contexts), default=0)
        seen = torch.arange(longest, device=self.device) < self._tensor([len(c) for c in contexts])[:, None]
        # Padded with a position of the row's own: what is masked is still read, and 0 * NaN is NaN.
        padded = self._tensor([c + c[:1] * (longest - len(c)) for c in contexts])
        return StepContext(cos, sin, self._tensor(write), prefill, self._tensor(single), padded, seen[:, None, None])

    def _cache_positions(self, row: Row, length: int) -> list[int]:
        size = self.config.block_size
        return [block * size + offset for block in row.block_table for offset in range(size)][:length]


def spans(rows: tuple[Row, ...]) -> list[tuple[int, int]]:
    """Where each row's tokens lie among the tokens of the step."""
    begins, total = [], 0
    for row in rows:
        begins.append((total, total + len(row.token_ids)))
        total += len(row.token_ids)
    return begins
