"""A base's rotary positions: plain, with linear interpolation, or YaRN. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log, pi
from typing import Any

KEYS = {
    "default": {"rope_theta"},
    "linear": {"rope_theta", "factor"},
    "yarn": {
        "rope_theta", "factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor",
        "truncate",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RopeConfig:
    theta: float
    kind: str = "default"
    factor: float = 1.0
    """How many times longer than in pre-training a text may be."""
    original_positions: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True

    @property
    def extended_positions(self) -> int:
        """Positions that YaRN reaches; linear interpolation is told of by the base's own limit."""
        return int(self.factor * self.original_positions) if self.kind == "yarn" else 0

    @property
    def magnitude(self) -> float:
        """What cosines and sines are multiplied by: YaRN's temperature, equation 22."""
        if self.attention_factor is not None:
            return self.attention_factor
        return 0.1 * log(self.factor) + 1.0 if self.kind == "yarn" and self.factor > 1 else 1.0

    def dimension(self, rotations: float, head_dim: int) -> float:
        """The pair that turns this many times within the original context (Peng et al. 2023, section 3.2)."""
        return head_dim * log(self.original_positions / (rotations * 2 * pi)) / (2 * log(self.theta))


def parse_rope(raw: Mapping[str, Any]) -> RopeConfig:
    """From a base's config.json; raises ValueError naming the key that stands in the way."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in KEYS:
        raise ValueError(f"rope_type {kind!r} is not one of {', '.join(KEYS)}")
    for key, value in rope.items():
        if key not in KEYS[kind] | {"rope_type", "type"} and value is not None:
            raise ValueError(f"rope_type {kind!r} with {key} is not supported")
    if kind != "default" and not rope.get("factor", 0) >= 1:
        raise ValueError(f"rope_type {kind!r} needs a factor of at least 1, not {rope.get('factor')!r}")
    return RopeConfig(
        theta=float(rope.get("rope_theta") or raw.get("rope_theta") or 10_000.0),
        kind=kind,
        factor=float(rope.get("factor") or 1.0),
        original_positions=int(rope.get("original_max_position_embeddings") or raw.get("max_position_embeddings", 0)),
        beta_fast=float(rope.get("beta_fast") or 32.0),
        beta_slow=float(rope.get("beta_slow") or 1.0),
        attention_factor=rope.get("attention_factor"),
        truncate=rope.get("truncate", True),
    )
