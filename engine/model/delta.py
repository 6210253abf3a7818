"""The one form of every adapter, and the slots of a linear layer that hold it.

    y = (1 + g) * (W ((1 + c) * x)) + (K (x) B A) x

`W` is the shared quantized base, `(x)` the Kronecker product; K is 1 for all kinds but LoKr. Experts of a mixture add
up inside each of g, c and K (x) BA, by their weights.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt

import torch
from torch import Tensor

from engine.model.kernels import LinearKernel
from engine.model.memory import zeros


@dataclass(frozen=True, slots=True)
class LinearDelta:
    """What an adapter does to one linear layer; a part that it lacks is None."""

    a: Tensor | None = None  # [rank, in], or [rank, in / m] under k
    b: Tensor | None = None  # [rank, out], or [rank, out / l] under k; scaling folded in
    k: Tensor | None = None  # [l, m]
    g: Tensor | None = None  # [out]
    c: Tensor | None = None  # [in]

    @property
    def parts(self) -> tuple[Tensor | None, ...]:
        return (self.a, self.b, self.k, self.g, self.c)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(part for part in self.parts if part is not None)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Delta:
    """A lowered adapter: layer name -> its part, and the soft prompt [virtual tokens, hidden]."""

    generation: str
    name: str
    linears: Mapping[str, LinearDelta]
    prompt: Tensor | None = None
    kind: str = "lora"
    """As its manifest says: lora, dora, ia3 or lokr."""

    @property
    def num_virtual(self) -> int:
        return 0 if self.prompt is None else self.prompt.shape[0]

    @property
    def num_bytes(self) -> int:
        tensors = [tensor for linear in self.linears.values() for tensor in linear.tensors]
        return sum(tensor.nbytes for tensor in (*tensors, *([] if self.prompt is None else [self.prompt])))


@dataclass(frozen=True)
class Mixtures:
    """Which slots the tokens of a step use, and by how much."""

    slots: Tensor
    """int32 [tokens, experts of one token at most]; -1 where a token uses no more of them."""
    weights: Tensor
    """fp32, of the same shape."""
    present: tuple[int, ...]
    """Every slot that some token uses."""

    @cached_property
    def dense(self) -> Tensor:
        """[tokens, len(present)]; zero where a token does not use the slot."""
        columns = torch.tensor(self.present, dtype=torch.int32, device=self.slots.device)
        return ((self.slots[:, :, None] == columns) * self.weights[:, :, None]).sum(1)

    def narrowed(self, columns: Sequence[int], like: Tensor) -> Tensor:
        return self.dense[:, columns].to(like.dtype)


class AdaptedLinear:
    """A linear layer of the base and its preallocated slots, whose addresses never change."""

    def __init__(
        self, kernel: LinearKernel, shape: tuple[int, int], slots: int, rank: int, like: Tensor, adapter: torch.dtype
    ) -> None:
        """A and B are kept in the dtype `adapter`, the small parts in that of `like`, which the model computes in."""
        out, inner = shape
        self.kernel, self.shape = kernel, shape
        self.a = zeros((slots, rank, inner), like, adapter)
        self.b = zeros((slots, rank, out), like, adapter)
        self.k = zeros((slots, isqrt(out) * isqrt(inner)), like)
        self.g = zeros((slots, out), like)
        self.c = zeros((slots, inner), like)
        self.low_rank: dict[int, int] = {}
        """Slot -> rank of what it holds."""
        self.kronecker: dict[int, tuple[int, int, int]] = {}
        """Slot -> (l, m, rank) of what it holds."""
        self.scales_output: set[int] = set()
        self.scales_input: set[int] = set()

    @property
    def slot_bytes(self) -> int:
        return self.a.nbytes + self.b.nbytes + self.k.nbytes + self.g.nbytes + self.c.nbytes

    def load(self, slot: int, delta: LinearDelta | None) -> None:
        """Copy `delta` into a slot, or empty it; each part without gaps from the slot's beginning."""
        delta = delta or LinearDelta()
        self.low_rank.pop(slot, None)
        self.kronecker.pop(slot, None)
        self.scales_output.discard(slot)
        self.scales_input.discard(slot)
        for place, source in enumerate(delta.parts):
            if source is not None:
                self._copy(place, slot, source)
        if delta.k is not None and delta.a is not None:
            self.kronecker[slot] = (*delta.k.shape, delta.a.shape[0])
        elif delta.a is not None:
            self.low_rank[slot] = delta.a.shape[0]
        if delta.g is not None:
            self.scales_output.add(slot)
        if delta.c is not None:
            self.scales_input.add(slot)

    def _copy(self, place: int, slot: int, source: Tensor) -> None:
        """Into the part of that place in a delta's `parts`."""
        target = (self.a, self.b, self.k, self.g, self.c)[place]
        target[slot].view(-1)[: source.numel()].view(source.shape).copy_(source, non_blocking=True)

    def __call__(self, x: Tensor, mixtures: Mixtures) -> Tensor:
        """x [tokens, in] -> [tokens, out]."""
        inputs = self._present(self.scales_input, mixtures)
        y = self.kernel(x * self._factor(self.c, inputs, mixtures) if inputs else x)
        if outputs := self._present(self.scales_output, mixtures):
            y = y * self._factor(self.g, outputs, mixtures)
        if columns := self._present(self.low_rank, mixtures):
            y = y + self._low_rank(x, columns, mixtures)
        if columns := self._present(self.kronecker, mixtures):
            y = y + self._kronecker(x, columns, mixtures)
        return y

    def _present(self, used: Container[int], mixtures: Mixtures) -> list[int]:
        """Columns of the dense mixtures whose slots have this part here."""
        return [column for column, slot in enumerate(mixtures.present) if slot in used]

    def _factor(self, diagonals: Tensor, columns: list[int], mixtures: Mixtures) -> Tensor:
        slots = [mixtures.present[column] for column in columns]
        return 1 + mixtures.narrowed(columns, diagonals) @ diagonals[slots]

    def _low_rank(self, x: Tensor, columns: list[int], mixtures: Mixtures) -> Tensor:
        """The ranks present, one after another; a token takes nothing, not even an overflow, from another's."""
        slots = [mixtures.present[column] for column in columns]
        ranks = torch.tensor([self.low_rank[slot] for slot in slots], device=x.device)
        a = torch.cat([self.a[slot, : self.low_rank[slot]] for slot in slots]).to(x.dtype)
        b = torch.cat([self.b[slot, : self.low_rank[slot]] for slot in slots]).to(x.dtype)
        weights = mixtures.narrowed(columns, x).repeat_interleave(ranks, 1)  # [tokens, sum of ranks]
        return torch.where(weights != 0, x @ a.t() * weights, 0) @ b

    def _kronecker(self, x: Tensor, columns: list[int], mixtures: Mixtures) -> Tensor:
        """K X (BA)^T, with x as a matrix X [m, in / m], for each shape of factors: their product is never formed."""
        by_shape: dict[tuple[int, int, int], list[int]] = {}
        for column in columns:
            by_shape.setdefault(self.kronecker[mixtures.present[column]], []).append(column)
        y = x.new_zeros(len(x), self.shape[0])
        for (left, right, rank), alike in by_shape.items():
            slots = [mixtures.present[column] for column in alike]
            a = self.a[slots].flatten(1)[:, : rank * (x.shape[1] // right)].unflatten(1, (rank, -1)).to(x.dtype)
            b = self.b[slots].flatten(1)[:, : rank * (y.shape[1] // left)].unflatten(1, (rank, -1)).to(x.dtype)
            k = self.k[slots, : left * right].unflatten(1, (left, right))
            weights = mixtures.narrowed(alike, x)[:, :, None, None]  # [tokens, slots, 1, 1]
            hidden = torch.einsum("tmn,srn->tsmr", x.unflatten(1, (right, -1)), a)
            hidden = torch.where(weights != 0, hidden * weights, 0)
            y = y + torch.einsum("tsmr,slm,sro->tlo", hidden, k, b).flatten(1)
        return y
