"""How many values an adapter has on a base of a given shape: arithmetic on PEFT's configuration, nothing is built.

`hotseat plan` asks it for the experts on disk and for the usual recipes, `bench.sizes` for the embedded ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from typing import Any

from engine.model.config import ModelConfig

_KINDS = {"LORA": "lora", "IA3": "ia3", "LOKR": "lokr"}
_LABELS = {"lora": "LoRA", "dora": "DoRA", "ia3": "IA3", "lokr": "LoKr"}
_UNEVEN_KEYS = ("rank_pattern", "layers_to_transform", "layers_pattern", "exclude_modules", "trainable_token_indices")
"""What makes an adapter differ from layer to layer, or reach beyond linear layers."""


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """A recipe: one adapter kind on the same modules of every block, and a soft prompt."""

    kind: str
    """lora, dora, ia3 or lokr."""
    targets: tuple[str, ...]
    """Ends of module names: `q_proj`, `mlp.up_proj`."""
    rank: int = 0
    feedforward: tuple[str, ...] = ()
    """IA3's targets whose input is scaled."""
    factor: int = -1
    """LoKr's divisor; -1 lets both factors be near the square root."""
    decompose_both: bool = False
    virtual_tokens: int = 0

    @property
    def label(self) -> str:
        rank = f" r={self.rank}" if self.kind != "ia3" else ""
        factor = f" factor {self.factor}" if self.kind == "lokr" and self.factor > 0 else ""
        prompt = f" + {self.virtual_tokens} virtual tokens" if self.virtual_tokens else ""
        return f"{_LABELS[self.kind]}{rank}{factor}{prompt}"


def shape_of(config: Mapping[str, Any], virtual_tokens: int = 0) -> ExpertShape:
    """From PEFT's adapter_config.json; raises ValueError for what this arithmetic does not cover."""
    for key in _UNEVEN_KEYS:
        if config.get(key):
            raise ValueError(f"{key} is {config[key]!r}, sizes are known for equal layers only")
    peft_type, targets = config.get("peft_type"), config.get("target_modules")
    if peft_type not in _KINDS:
        raise ValueError(f"peft_type {peft_type!r} is not one of {', '.join(_KINDS)}")
    kind = "dora" if config.get("use_dora") else _KINDS[peft_type]
    if not isinstance(targets, list | tuple | set):
        raise ValueError(f"target_modules is {targets!r}, not a list of names")
    rank = config.get("r", 0)
    if kind != "ia3" and (isinstance(rank, bool) or not isinstance(rank, int) or rank < 1):
        raise ValueError(f"r is {rank!r}, not a whole number above 0")
    feedforward = config.get("feedforward_modules") or ()
    return ExpertShape(
        kind=kind,
        targets=tuple(sorted(targets)),
        rank=rank,
        feedforward=(feedforward,) if isinstance(feedforward, str) else tuple(sorted(feedforward)),
        factor=config.get("decompose_factor", -1),
        decompose_both=bool(config.get("decompose_both")),
        virtual_tokens=virtual_tokens,
    )


def num_values(expert: ExpertShape, model: ModelConfig) -> int:
    """Values of the adapter and its soft prompt; raises ValueError where it reaches no layer of this base."""
    per_block = 0
    for name, (out, inner) in model.linear_shapes.items():
        if not _ends_with_one_of(name, expert.targets):
            continue
        if expert.kind == "ia3":
            per_block += inner if _ends_with_one_of(name, expert.feedforward) else out
        elif expert.kind == "lokr":
            per_block += _lokr_values(expert, out, inner)
        else:
            per_block += expert.rank * (out + inner) + (out if expert.kind == "dora" else 0)
    if not per_block:
        raise ValueError(f"its targets {', '.join(expert.targets)} are no linear layers of this base")
    return per_block * model.num_layers + expert.virtual_tokens * model.hidden_size


def _ends_with_one_of(name: str, ends: tuple[str, ...]) -> bool:
    return any(f".{name}".endswith(f".{end}") for end in ends)


def _lokr_values(expert: ExpertShape, out: int, inner: int) -> int:
    """W1 (x) W2 (Yeh et al. 2024), each whole or, where its rank is under half of its larger side, a product."""
    (out_1, out_2), (inner_1, inner_2) = _split(out, expert.factor), _split(inner, expert.factor)
    first = _factor_values(out_1, inner_1, expert.rank if expert.decompose_both else None)
    return first + _factor_values(out_2, inner_2, expert.rank)


def _factor_values(rows: int, columns: int, rank: int | None) -> int:
    is_product = rank is not None and 2 * rank < max(rows, columns)
    return rank * (rows + columns) if is_product and rank else rows * columns


def _split(size: int, factor: int) -> tuple[int, int]:
    """Two numbers whose product is `size`: the factor where it divides, else the largest divisor up to it."""
    if factor > 0 and size % factor == 0:
        return factor, size // factor
    limit = isqrt(size) if factor < 1 else min(isqrt(size), factor)
    first = max(divisor for divisor in range(1, limit + 1) if size % divisor == 0)
    return first, size // first
