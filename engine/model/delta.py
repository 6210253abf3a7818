"""The one form of every adapter, and the slots of a linear layer that hold it.

    y = (1 + g) * (W ((1 + c) * x)) + (K (x) B A) x

`W` is the shared quantized base, `(x)` the Kronecker product; K is 1 for all kinds but LoKr. Experts of a mixture add
up inside each of g, c and K (x) BA, by their weights.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt

import torch
from torch import Tensor

from engine.model.kernels import LinearKernel


@dataclass(frozen=True, slots=True)
class LinearDelta:
    """What an adapter does to one linear layer; a part that it lacks is None."""

    a: Tensor | None = None  # [rank, in], or [rank, in / m] under k
    b: Tensor | None = None  # [rank, out], or [rank, out / l] under k; scaling folded in
    k: Tensor | None = None  # [l, m]
    g: Tensor | None = None  # [out]
    c: Tensor | None = None  # [in]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return tuple(t for t in (self.a, self.b, self.k, self.g, self.c) if t is not None)


@dataclass(frozen=True, slots=True)
class Delta:
    """A lowered adapter: layer name -> its part, and the soft prompt [virtual tokens, hidden]."""

    generation: str
    name: str
    linears: Mapping[str, LinearDelta]
    prompt: Tensor | None = None

    @property
    def num_virtual(self) -> int:
        return 0 if self.prompt is None else self.prompt.shape[0]

    @property
    def num_bytes(self) -> int:
        tensors = [tensor for linear in self.linears.values() for tensor in linear.tensors]
        return sum(tensor.nbytes for tensor in (*tensors, *([] if self.prompt is None else [self.prompt])))


@dataclass(frozen=True, slots=True)
class Mixtures:
    """Which slots the tokens of a step use, and by how much."""

    slots: tuple[int, ...]
    weights: Tensor
    """[tokens, len(slots)]; zero where a token does not use the slot."""

    def narrowed(self, columns: Sequence[int]) -> Tensor:
        return self.weights if len(columns) == len(self.slots) else self.weights[:, columns]


class AdaptedLinear:
    """A linear layer of the base and its preallocated slots, whose addresses never change."""

    def __init__(self, kernel: LinearKernel, shape: tuple[int, int], slots: int, rank: int, like: Tensor) -> None:
        out, inner = shape
        self.kernel = kernel
        self.a = like.new_zeros(slots, rank, inner)
        self.b = like.new_zeros(slots, rank, out)
        self.k = like.new_zeros(slots, isqrt(out) * isqrt(inner))
        self.g = like.new_zeros(slots, out)
        self.c = like.new_zeros(slots, inner)
        self.low_rank: set[int] = set()
        self.kronecker: dict[int, tuple[int, int, int]] = {}
        """Slot -> (l, m, rank) of what it holds."""
        self.scales_output: set[int] = set()
        self.scales_input: set[int] = set()

    @property
    def slot_bytes(self) -> int:
        return self.a.nbytes + self.b.nbytes + self.k.nbytes + self.g.nbytes + self.c.nbytes

    def load(self, slot: int, delta: LinearDelta | None) -> None:
        """Copy `delta` into a slot, or empty it. Rows of the rank that the adapter lacks become zero."""
        delta = delta or LinearDelta()
        self.kronecker.pop(slot, None)
        if delta.k is not None:
            self._load_kronecker(slot, delta)
            delta = replace(delta, a=None, b=None)
        for used, source, target in (
            (self.low_rank, delta.a, self.a),
            (self.low_rank, delta.b, self.b),
            (self.scales_output, delta.g, self.g),
            (self.scales_input, delta.c, self.c),
        ):
            if source is None:
                used.discard(slot)
                continue
            used.add(slot)
            place = target[slot]
            if source.ndim == 2:
                place[source.shape[0] :].zero_()
                place = place[: source.shape[0]]
            place.copy_(source, non_blocking=True)

    def _load_kronecker(self, slot: int, delta: LinearDelta) -> None:
        """The factors take the memory that a low-rank part would, laid out without gaps."""
        assert delta.a is not None and delta.b is not None and delta.k is not None
        for source, target in ((delta.a, self.a), (delta.b, self.b), (delta.k, self.k)):
            target[slot].view(-1)[: source.numel()].view(source.shape).copy_(source, non_blocking=True)
        self.kronecker[slot] = (*delta.k.shape, delta.a.shape[0])

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
        """Columns of `mixtures` whose slots have this part here."""
        return [column for column, slot in enumerate(mixtures.slots) if slot in used]

    def _factor(self, diagonals: Tensor, columns: list[int], mixtures: Mixtures) -> Tensor:
        slots = [mixtures.slots[column] for column in columns]
        return 1 + mixtures.narrowed(columns) @ diagonals[slots]

    def _low_rank(self, x: Tensor, columns: list[int], mixtures: Mixtures) -> Tensor:
        """All slots present at once; a token takes nothing, not even an overflow, from a slot it does not use."""
        slots = [mixtures.slots[column] for column in columns]
        weights = mixtures.narrowed(columns)[:, :, None]  # [tokens, slots, 1]
        a, b = self.a[slots], self.b[slots]
        hidden = (x @ a.flatten(0, 1).t()).unflatten(1, a.shape[:2])  # [tokens, slots, rank]
        hidden = torch.where(weights != 0, hidden * weights, 0)
        return hidden.flatten(1) @ b.flatten(0, 1)

    def _kronecker(self, x: Tensor, columns: list[int], mixtures: Mixtures) -> Tensor:
        """K X (BA)^T, with x as a matrix X [m, in / m], for each shape of factors: their product is never formed."""
        by_shape: dict[tuple[int, int, int], list[int]] = {}
        for column in columns:
            by_shape.setdefault(self.kronecker[mixtures.slots[column]], []).append(column)
        y = x.new_zeros(len(x), self.g.shape[1])
        for (left, right, rank), alike in by_shape.items():
            slots = [mixtures.slots[column] for column in alike]
            a = self.a[slots].flatten(1)[:, : rank * (x.shape[1] // right)].unflatten(1, (rank, -1))
            b = self.b[slots].flatten(1)[:, : rank * (y.shape[1] // left)].unflatten(1, (rank, -1))
            k = self.k[slots, : left * right].unflatten(1, (left, right))
            weights = mixtures.narrowed(alike)[:, :, None, None]  # [tokens, slots, 1, 1]
            hidden = torch.einsum("tmn,srn->tsmr", x.unflatten(1, (right, -1)), a)
            hidden = torch.where(weights != 0, hidden * weights, 0)
            y = y + torch.einsum("tsmr,slm,sro->tlo", hidden, k, b).flatten(1)
        return y
