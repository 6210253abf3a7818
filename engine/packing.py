"""How a lowered adapter is kept on disk and in host memory: as the slots hold it, or with A and B in 8 or 4 bits.

A flat table of named tensors: `layer|part`, and `layer|part.scales` beside a part of integers. int8 has a scale for
each rank row; int4 has one for each GROUP values of a row, two values a byte, since one large value would cost a whole
row its few levels. Diagonals, Kronecker factors and soft prompts are small and stay as they are. What is served is
always the unpacked form, so that an answer does not depend on the tier that the adapter came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.config import AdapterStorage
from engine.model.delta import Delta, LinearDelta

GROUP = 32
"""Values of a row that share a scale in int4."""
PROMPT = "prompt"
SCALES = ".scales"
PARTS = ("a", "b", "k", "g", "c")


@dataclass(frozen=True, slots=True)
class StoredDelta:
    """A lowered adapter in its storage form."""

    generation: str
    name: str
    kind: str
    storage: AdapterStorage
    tensors: Mapping[str, Tensor]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors.values())


def pack(delta: Delta, storage: AdapterStorage) -> StoredDelta:
    tensors: dict[str, Tensor] = {} if delta.prompt is None else {PROMPT: delta.prompt}
    for layer, linear in delta.linears.items():
        for part, tensor in zip(PARTS, linear.parts, strict=True):
            if tensor is None:
                continue
            if part in "ab" and storage != "plain":
                codes, scales = (_to_int8 if storage == "int8" else _to_int4)(tensor)
                tensors[f"{layer}|{part}"], tensors[f"{layer}|{part}{SCALES}"] = codes, scales
            else:
                tensors[f"{layer}|{part}"] = tensor
    return StoredDelta(delta.generation, delta.name, delta.kind, storage, tensors)


def unpack(stored: StoredDelta, low_rank: torch.dtype) -> Delta:
    """A and B come back in the dtype `low_rank`. Raises ValueError for a table that no adapter packs to."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in stored.tensors.items():
        layer, bar, part = name.rpartition("|")
        if bar and part in PARTS:
            scales = stored.tensors.get(name + SCALES)
            layers.setdefault(layer, {})[part] = tensor if scales is None else _unpacked(tensor, scales, low_rank)
        elif not (name == PROMPT or (name.endswith(SCALES) and name.removesuffix(SCALES) in stored.tensors)):
            raise ValueError(f"tensor {name!r} is no part of an adapter")
    linears = {layer: LinearDelta(**parts) for layer, parts in layers.items()}
    return Delta(stored.generation, stored.name, linears, stored.tensors.get(PROMPT), stored.kind)


def _to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [rank, width] and scales fp32 [rank, 1]."""
    values = rows.float()
    scales = _nonzero(values.abs().amax(1, keepdim=True) / 127)
    return (values / scales).round().to(torch.int8), scales


def _to_int4(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Two codes from -7 to 7 a byte, 8 too high, uint8 [rank, groups, GROUP / 2], and scales bf16 [rank, groups, 1].

    Rows whose width is no multiple of GROUP are kept in int8 instead.
    """
    if rows.shape[1] % GROUP:
        return _to_int8(rows)
    values = rows.float().unflatten(1, (-1, GROUP))
    scales = _nonzero(values.abs().amax(2, keepdim=True) / 7).bfloat16()
    # The scale may have been rounded down, so the largest value is clamped.
    codes = (values / scales.float()).round().clamp(-7, 7).to(torch.int16) + 8
    return (codes[..., ::2] | codes[..., 1::2] << 4).to(torch.uint8), scales


def _unpacked(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    if codes.dtype == torch.int8 and codes.ndim == 2 and scales.shape == (len(codes), 1):
        return (codes.float() * scales).to(dtype)
    if codes.dtype != torch.uint8 or codes.ndim != 3 or scales.shape != (*codes.shape[:2], 1):
        raise ValueError(f"codes {codes.dtype} {list(codes.shape)} do not fit scales of {list(scales.shape)}")
    pairs = torch.stack((codes & 15, codes >> 4), -1).flatten(-2).float() - 8
    return (pairs * scales.float()).flatten(1).to(dtype)


def _nonzero(scales: Tensor) -> Tensor:
    return torch.where(scales > 0, scales, torch.ones_like(scales))


@dataclass(frozen=True, slots=True)
class PackingError:
    """Relative Frobenius errors of the products (K (x) B A) against those of the unpacked adapter."""

    storage: AdapterStorage
    num_bytes: int
    by_module: Mapping[str, float]
    """Kind of module, such as `q_proj`: over all its layers."""
    whole: float


def packing_error(delta: Delta, storage: AdapterStorage) -> PackingError:
    """What storage in fewer bits costs; 0 for an adapter without a low-rank part, which stays as it is.

    ||d(BA)||_F without forming out x in: with B^T A - B'^T A' = P^T Q, P = [B; B'] and Q = [A; -A'], it is
    sqrt(sum((P P^T) * (Q Q^T))), in float64. A Kronecker factor multiplies both norms by its own.
    """
    stored = pack(delta, storage)
    kept = unpack(stored, torch.float32)
    squares: dict[str, tuple[float, float]] = {}
    for layer, linear in delta.linears.items():
        other = kept.linears[layer]
        if linear.a is None or linear.b is None or other.a is None or other.b is None:
            continue
        factor = 1.0 if linear.k is None else float(linear.k.double().square().sum())
        a, b, a2, b2 = (part.double() for part in (linear.a, linear.b, other.a, other.b))
        module = layer.rpartition(".")[2]
        error, norm = squares.get(module, (0.0, 0.0))
        if storage != "plain":  # whose tensors are the same, while sums that cancel leave some rounding
            error += factor * _square(torch.cat((b, b2)), torch.cat((a, -a2)))
        squares[module] = (error, norm + factor * _square(b, a))
    errors, norms = (sum(pair[side] for pair in squares.values()) for side in (0, 1))
    return PackingError(
        storage=storage,
        num_bytes=stored.num_bytes,
        by_module={module: (error / norm) ** 0.5 if norm else 0.0 for module, (error, norm) in squares.items()},
        whole=(errors / norms) ** 0.5 if norms else 0.0,
    )


def _square(left: Tensor, right: Tensor) -> float:
    """||left^T right||_F^2; rounding may take it a little under zero."""
    return max(float(((left @ left.t()) * (right @ right.t())).sum()), 0.0)
