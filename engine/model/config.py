"""The shape of a base model, read from its config.json. What this engine cannot run is refused by key."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UnsupportedModel
from engine.model.rope import RopeConfig, parse_rope


@dataclass(frozen=True, slots=True)
class ModelConfig:
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int
    rope: RopeConfig
    norm_eps: float
    tied_embeddings: bool
    eos_ids: frozenset[int]


def read_config(directory: Path) -> ModelConfig:
    """Parse `config.json`; raises UnsupportedModel naming the key that stands in the way."""
    raw: dict[str, Any] = json.loads((directory / "config.json").read_text())
    if raw.get("model_type") != "qwen3":
        raise UnsupportedModel(f"{directory}: model_type {raw.get('model_type')!r} is not qwen3")
    if "auto_map" in raw:
        raise UnsupportedModel(f"{directory}: config.json asks for code of its own (auto_map)")
    if raw.get("attention_bias") or raw.get("use_sliding_window") or raw.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(
            f"{directory}: attention_bias, sliding windows and activations but silu are not supported"
        )
    try:
        rope = parse_rope(raw)
        return ModelConfig(
            vocab_size=raw["vocab_size"],
            hidden_size=raw["hidden_size"],
            intermediate_size=raw["intermediate_size"],
            num_layers=raw["num_hidden_layers"],
            num_heads=raw["num_attention_heads"],
            num_kv_heads=raw["num_key_value_heads"],
            head_dim=raw["head_dim"],
            max_positions=max(raw["max_position_embeddings"], rope.extended_positions),
            rope=rope,
            norm_eps=raw["rms_norm_eps"],
            tied_embeddings=raw["tie_word_embeddings"],
            eos_ids=_eos_ids(directory, raw),
        )
    except KeyError as missing:
        raise UnsupportedModel(f"{directory}: config.json has no {missing}") from missing
    except ValueError as fault:
        raise UnsupportedModel(f"{directory}: {fault}") from fault


def _eos_ids(directory: Path, raw: dict[str, Any]) -> frozenset[int]:
    """generation_config.json knows them best: a chat model ends its turn by another token than its text."""
    path = directory / "generation_config.json"
    generation = json.loads(path.read_text()) if path.exists() else {}
    found = generation.get("eos_token_id")
    found = raw.get("eos_token_id") if found is None else found
    return frozenset(found if isinstance(found, list) else [] if found is None else [found])
