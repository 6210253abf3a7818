"""The base on a CUDA device: the kernels of `triton/`, and steps of one token in each row replayed from graphs.

The plain transformer is the reference; this one reads the cache in place and asks no tensor for its values. Importing
it needs Triton, whose interpreter runs it on a CPU, slowly, for tests. Copies into slots are ordered by `uploads.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from engine.config import EngineConfig
from engine.model.cuda_graphs import DecodeGraphs, DecodeInputs, Recorder, bucket_sizes
from engine.model.delta import AdaptedLinear, Delta, LinearDelta, Mixtures
from engine.model.kernels import LinearKernel
from engine.model.layers import KVCache, PrefillSpan, StepInputs
from engine.model.transformer import Layer, Transformer
from engine.model.triton import COLUMNS
from engine.model.triton.attention import paged_attention, write_cache
from engine.model.triton.fused import norm_rope, rms_norm, silu_mul
from engine.model.triton.low_rank import diagonal, low_rank, rank_blocks

EMPTY = (1, 1, 0)
"""l, m and rank of a slot without a low-rank part."""


class TritonLinear(AdaptedLinear):
    """An adapted linear layer whose slots say on the device what they hold, where a recorded step finds it.

    The kernels have room for a slot's largest rank under a K of COLUMNS columns. What takes more, `wide` slots, is
    computed by the reference, in steps that are not replayed.
    """

    def __init__(self, kernel: LinearKernel, shape: tuple[int, int], slots: int, rank: int, like: Tensor) -> None:
        super().__init__(kernel, shape, slots, rank, like, like.dtype)
        self.blocks = rank_blocks(rank, min(COLUMNS, isqrt(shape[1])))
        self.shapes = torch.tensor([EMPTY] * slots, dtype=torch.int32, device=like.device)
        """[slots, 3]: l, m, rank."""
        self.k[:, 0] = 1
        self.wide: set[int] = set()
        self._held = [EMPTY] * slots
        """What `shapes` says."""

    @property
    def slot_bytes(self) -> int:
        return super().slot_bytes + self.shapes.nbytes

    def load(self, slot: int, delta: LinearDelta | None) -> None:
        """As the plain one; diagonals that the slot no longer has become 0, and its K becomes 1."""
        scaled_output, scaled_input = slot in self.scales_output, slot in self.scales_input
        was_kronecker = slot in self.kronecker
        super().load(slot, delta)
        if scaled_output and slot not in self.scales_output:
            self.g[slot].zero_()
        if scaled_input and slot not in self.scales_input:
            self.c[slot].zero_()
        if was_kronecker and slot not in self.kronecker:
            self.k[slot, 0].fill_(1)
        shape = self.kronecker.get(slot) or (1, 1, self.low_rank.get(slot, 0))
        self.wide.discard(slot)
        if rank_blocks(shape[2], shape[1]) > self.blocks:
            self.wide.add(slot)
            shape = EMPTY
        if shape != self._held[slot]:
            self._held[slot] = shape
            sizes = torch.tensor(shape, dtype=torch.int32)
            self.shapes[slot].copy_(sizes.pin_memory() if self.shapes.is_cuda else sizes, non_blocking=True)

    def __call__(self, x: Tensor, mixtures: Mixtures) -> Tensor:
        """x [tokens, in] -> [tokens, out]; `mixtures.present` may leave out slots that are not wide."""
        slots, weights = mixtures.slots, mixtures.weights
        if slots.shape[1] == 0:
            return self.kernel(x)
        y = self.kernel(diagonal(x, self.c, slots, weights, out=torch.empty_like(x)))
        low_rank(y, x, self.a, self.b, self.k, self.shapes, slots, weights, self.blocks, self.g)
        if columns := self._present(self.wide, mixtures):
            y = y + self._kronecker(x, columns, mixtures)
        return y


@dataclass(frozen=True, slots=True)
class Rows:
    """How the tokens of a step attend: tokens alone in their row through paged attention, prompts by themselves."""

    prompts: Sequence[PrefillSpan]
    alone: Tensor | None
    """Indices of the tokens that are alone in their row, where there are others."""
    tables: Tensor
    """int32 [rows alone, blocks]"""
    lengths: Tensor
    """int32 [rows alone] positions that they see, the new one among them; 0 for padding."""
    block_size: int

    def attend(self, query: Tensor, cache: KVCache) -> Tensor:
        """query [tokens, heads, head_dim] -> the same shape; keys and values of the tokens are in the cache."""
        if self.alone is None:
            return self._paged(query, cache)
        out = torch.empty_like(query)
        for span in self.prompts:
            keys, values = cache.read(span.cache, query.dtype)
            out[span.begin : span.end] = attend_prompt(query[span.begin : span.end], keys, values, span.mask)
        if len(self.alone):
            out[self.alone] = self._paged(query[self.alone], cache)
        return out

    def _paged(self, query: Tensor, cache: KVCache) -> Tensor:
        keys, values, *scales = in_blocks(cache, self.block_size)
        return paged_attention(query, keys, values, self.tables, self.lengths, query.shape[-1] ** -0.5, *scales)


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a step, on the device."""

    ids: Tensor
    positions: Tensor
    write: Tensor
    """Flat cache positions of their keys and values."""
    mixtures: Mixtures
    rows: Rows


class TritonTransformer(Transformer):
    """Serves CUDA. `forward` takes the arrays of a step on the host."""

    def __init__(self, *parts: Any) -> None:
        """The last block of the caches is where padding writes; no sequence owns it."""
        super().__init__(*parts)
        self.graphs: DecodeGraphs | None = None
        self.wide: set[int] = set()
        """Slots that are wide on some layer."""

    @property
    def input_device(self) -> torch.device:
        return torch.device("cpu")

    def record(self, config: EngineConfig, recorder: Recorder) -> None:
        """Record the steps of one token in each row; until then, every step runs at once."""
        device, vocab = self.embedding.device, self.config.vocab_size
        # Recordings share their result, of which each would keep its own.
        logits = torch.empty(config.max_batch, vocab, dtype=torch.float32, device=device)

        def step(inputs: DecodeInputs) -> Tensor:
            return logits[: len(inputs.ids)].copy_(self.decode(inputs))

        self.graphs = DecodeGraphs(
            step,
            bucket_sizes(config.max_batch),
            sorted({0, 1, min(4, config.num_slots), config.num_slots}),
            -(-(config.max_context or self.config.max_positions) // self.block_size),
            len(self.layers[0].cache.keys) - self.block_size,
            device,
            recorder,
        )

    def load_slot(self, slot: int, delta: Delta) -> None:
        super().load_slot(slot, delta)
        self.wide.discard(slot)
        if any(isinstance(linear, TritonLinear) and slot in linear.wide for linear in self.linears.values()):
            self.wide.add(slot)

    def forward(self, inputs: StepInputs) -> Tensor:
        is_alone = inputs.begins[-1] == len(inputs.starts)
        if self.graphs is None or not is_alone or not self.wide.isdisjoint(inputs.mixtures.present):
            hidden = self._final(self._tokens(inputs), inputs.sampled.to(self.embedding.device))
            return self.head(hidden).float()
        mixtures, tables = inputs.mixtures, inputs.tables
        write = self._places(inputs, torch.arange(len(inputs.ids)))
        integers = (inputs.ids, inputs.positions, write, inputs.positions + 1, tables, mixtures.slots)
        logits = self.graphs.run(DecodeInputs(*[*(part.int() for part in integers), mixtures.weights]))
        return logits if len(inputs.sampled) == len(logits) else logits[inputs.sampled.to(logits.device)]

    def decode(self, inputs: DecodeInputs) -> Tensor:
        """Logits [rows, vocab] of one token in each row; no value is asked for, so that it can be recorded."""
        rows = Rows((), None, inputs.block_tables, inputs.lengths, self.block_size)
        mixtures = Mixtures(inputs.token_slots, inputs.token_weights, ())
        return self.head(self._final(Tokens(inputs.ids, inputs.positions, inputs.write, mixtures, rows)))

    def embed(self, ids: Tensor) -> Tensor:
        """As the plain one, but does not look whether there are virtual tokens."""
        return self._embed_virtual(ids)

    def _final(self, tokens: Tokens, sampled: Tensor | None = None) -> Tensor:
        """What the head sees of all tokens, or of the sampled ones."""
        eps, added = self.config.norm_eps, None
        cos, sin = self.rotary.cos[tokens.positions], self.rotary.sin[tokens.positions]
        hidden = self.embed(tokens.ids)
        for layer in self.layers:
            x = rms_norm(hidden, layer.input_norm, eps, added)
            mixed = self._mix(layer, x, tokens, cos, sin)
            x = rms_norm(hidden, layer.post_norm, eps, mixed)
            gate, up = (layer.linears[f"mlp.{name}_proj"](x, tokens.mixtures) for name in ("gate", "up"))
            added = layer.linears["mlp.down_proj"](silu_mul(gate, up), tokens.mixtures)
        if sampled is not None:
            hidden, added = hidden[sampled], None if added is None else added[sampled]
        return rms_norm(hidden, self.norm, eps, added)

    def _mix(self, layer: Layer, x: Tensor, tokens: Tokens, cos: Tensor, sin: Tensor) -> Tensor:
        """The attention of a block, its output projection included."""
        eps, shape = self.config.norm_eps, (-1, self.config.head_dim)
        query, key, value = (
            layer.linears[f"self_attn.{name}_proj"](x, tokens.mixtures).unflatten(1, shape) for name in "qkv"
        )
        query = norm_rope(query, layer.query_norm, cos, sin, eps)
        key = norm_rope(key, layer.key_norm, cos, sin, eps)
        keys, values, *scales = in_blocks(layer.cache, self.block_size)
        write_cache(key, value, keys, values, tokens.write, *scales)
        mixed = tokens.rows.attend(query, layer.cache)
        return layer.linears["self_attn.o_proj"](mixed.flatten(1), tokens.mixtures)

    def _places(self, inputs: StepInputs, rows: Tensor) -> Tensor:
        """Flat cache positions of the tokens of a step, which belong to `rows`; on the host."""
        blocks = inputs.tables[rows, inputs.positions // self.block_size]
        return blocks * self.block_size + inputs.positions % self.block_size

    def _tokens(self, inputs: StepInputs) -> Tokens:
        """Of any step, put on the device."""
        device, mixtures = self.embedding.device, inputs.mixtures
        counts = [end - begin for begin, end in pairwise(inputs.begins)]
        write = self._places(inputs, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)))
        spans, alone = [], []
        for row, (begin, end) in enumerate(pairwise(inputs.begins)):
            if end - begin == 1:
                alone.append(row)
            else:
                spans.append(self._span(inputs, row))
        tables, lengths = inputs.tables[alone], torch.tensor([inputs.starts[row] + 1 for row in alone])
        places = torch.tensor([inputs.begins[row] for row in alone], dtype=torch.long)
        rows = Rows(
            spans, places.to(device) if spans else None, tables.to(device), lengths.int().to(device), self.block_size
        )
        on_device = Mixtures(mixtures.slots.to(device), mixtures.weights.to(device), mixtures.present)
        return Tokens(inputs.ids.to(device), inputs.positions.to(device), write.to(device), on_device, rows)

    def _span(self, inputs: StepInputs, row: int) -> PrefillSpan:
        begin, end = inputs.begins[row : row + 2]
        positions = torch.arange(inputs.starts[row] + end - begin)
        places = inputs.tables[row, positions // self.block_size] * self.block_size + positions % self.block_size
        return PrefillSpan.of(begin, end, inputs.starts[row], places.to(self.embedding.device))


def in_blocks(cache: KVCache, block_size: int) -> list[Tensor]:
    """Keys and values [blocks, block_size, heads, head_dim], and the scales of both where there are any."""
    parts = [cache.keys, cache.values, *([] if cache.scales is None else cache.scales)]
    return [part.unflatten(0, (-1, block_size)) for part in parts]


def attend_prompt(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """query [tokens, heads, head_dim] over keys and values [context, kv_heads, head_dim] -> the shape of query.

    Query heads of one key head become a batch, so that no key is copied for them: torch's kernels that take a mask and
    keep no scores in memory know no groups of heads.
    """
    kv_heads = keys.shape[1]
    grouped = query.unflatten(1, (kv_heads, -1)).permute(2, 1, 0, 3)  # [group, kv_heads, tokens, head_dim]
    wide_keys, wide_values = (part.transpose(0, 1).expand(len(grouped), -1, -1, -1) for part in (keys, values))
    mixed = scaled_dot_product_attention(grouped, wide_keys, wide_values, attn_mask=mask[None, None])
    return mixed.permute(2, 1, 0, 3).flatten(1, 2)
