"""The shape of a base model, read from its config.json. What cannot be run is refused by key. No torch here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.config import CPU_ONLY, EngineConfig
from engine.errors import UnsupportedModel
from engine.model.checkpoint import read_headers
from engine.model.rope_config import RopeConfig, parse_rope

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
_ITEM_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "float32": 4, "bfloat16": 2, "float16": 2}


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
    embedding_itemsize: int = 2
    """Bytes of one value of the embedding as stored."""

    @property
    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """The linear layers of one block: name -> (out, in)."""
        hidden, inner = self.hidden_size, self.intermediate_size
        query, key = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "self_attn.q_proj": (query, hidden),
            "self_attn.k_proj": (key, hidden),
            "self_attn.v_proj": (key, hidden),
            "self_attn.o_proj": (hidden, query),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }

    @property
    def block_room(self) -> int:
        """Values of a token that a block of the fused CPU kernels holds beside the residual (`room` in native.h)."""
        query, key = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return max(2 * (query + key), 2 * self.intermediate_size) + self.hidden_size

    @property
    def norm_widths(self) -> dict[str, int]:
        """The norms of one block: name -> length of their gain."""
        return {
            "input_layernorm": self.hidden_size,
            "post_attention_layernorm": self.hidden_size,
            "self_attn.q_norm": self.head_dim,
            "self_attn.k_norm": self.head_dim,
        }

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that a checkpoint of this shape has to hold."""
        table = (self.vocab_size, self.hidden_size)
        shapes: dict[str, tuple[int, ...]] = {EMBEDDING: table, "model.norm.weight": (self.hidden_size,)}
        if not self.tied_embeddings:
            shapes[HEAD] = table
        for index in range(self.num_layers):
            for name, width in self.norm_widths.items():
                shapes[f"model.layers.{index}.{name}.weight"] = (width,)
            for name, shape in self.linear_shapes.items():
                shapes[f"model.layers.{index}.{name}.weight"] = shape
        return shapes


LANES = 16
"""Values of a vector of the native kernels; they leave no rest over."""
FOUR_BIT_GROUP = 32
"""Inputs whose four-bit weights share a scale; the native kernels want whole groups."""
DENSE_OUTPUTS = 1024
"""Outputs whose four-bit weights the plain model makes dense together: a vocabulary's never lie there in whole."""
MAX_GROUP = 8
"""Query heads of one key head that the native attention takes together."""


FusedKind = Literal["native", "triton"]


def fused_kind(config: EngineConfig, model: ModelConfig) -> FusedKind | None:
    """Which fused kernels serve this base, where they were built or installed; None is the plain transformer."""
    # Triton launches on a thread's current device, which is the first.
    if config.kernels == "triton" or (config.kernels == "fused" and config.device in ("cuda", "cuda:0")):
        return None if config.quantization in CPU_ONLY else "triton"
    inner_widths = {inner for _, inner in model.linear_shapes.values()}
    inner_unit = FOUR_BIT_GROUP if config.quantization == "int4" else LANES
    widths = (model.hidden_size, model.intermediate_size, model.head_dim, model.vocab_size, config.block_size)
    is_native = (
        config.device == "cpu"
        and config.quantization in CPU_ONLY
        and config.kernels == "fused"
        and all(width % LANES == 0 for width in widths)
        and all(width % inner_unit == 0 for width in inner_widths)
        and model.num_heads // model.num_kv_heads <= MAX_GROUP
    )
    return "native" if is_native else None


def num_scratch_blocks(config: EngineConfig, model: ModelConfig) -> int:
    """KV blocks beside those of sequences: where the padding of a recorded step writes."""
    return 1 if fused_kind(config, model) == "triton" else 0


def read_config(directory: Path) -> ModelConfig:
    """Parse `config.json`; raises UnsupportedModel naming the key that stands in the way."""
    raw = _read_object(directory, "config.json")
    if raw.get("model_type") != "qwen3":
        raise UnsupportedModel(f"{directory}: model_type {raw.get('model_type')!r} is not qwen3")
    if "auto_map" in raw:
        raise UnsupportedModel(f"{directory}: config.json asks for code of its own (auto_map)")
    if raw.get("attention_bias") or raw.get("use_sliding_window") or raw.get("hidden_act", "silu") != "silu":
        raise UnsupportedModel(
            f"{directory}: attention_bias, sliding windows and activations but silu are not supported"
        )
    heads, key_heads = _count(raw, "num_attention_heads"), _count(raw, "num_key_value_heads")
    if heads % key_heads:
        raise UnsupportedModel(
            f"{directory}: num_key_value_heads {key_heads} does not divide num_attention_heads {heads}"
        )
    try:
        rope = parse_rope(raw)
        return ModelConfig(
            vocab_size=_count(raw, "vocab_size"),
            hidden_size=_count(raw, "hidden_size"),
            intermediate_size=_count(raw, "intermediate_size"),
            num_layers=_count(raw, "num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=key_heads,
            head_dim=_count(raw, "head_dim"),
            max_positions=max(_count(raw, "max_position_embeddings"), rope.extended_positions),
            rope=rope,
            norm_eps=raw["rms_norm_eps"],
            tied_embeddings=raw["tie_word_embeddings"],
            eos_ids=_eos_ids(directory, raw),
            embedding_itemsize=_embedding_itemsize(directory, raw),
        )
    except KeyError as missing:
        raise UnsupportedModel(f"{directory}: config.json has no {missing}") from missing
    except ValueError as fault:
        raise UnsupportedModel(f"{directory}: {fault}") from fault


def _read_object(directory: Path, file: str) -> dict[str, Any]:
    try:
        raw = json.loads((directory / file).read_bytes())
    except (OSError, ValueError) as fault:
        raise UnsupportedModel(f"{directory}: {file} cannot be read: {fault}") from fault
    if not isinstance(raw, dict):
        raise UnsupportedModel(f"{directory}: {file} is not an object")
    return raw


def _count(raw: dict[str, Any], key: str) -> int:
    value = raw[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} is {value!r}, not a whole number above 0")
    return value


def _embedding_itemsize(directory: Path, raw: dict[str, Any]) -> int:
    """From the checkpoint where there is one: config.json may say otherwise."""
    header = read_headers(directory).get(EMBEDDING)
    dtype = header.dtype if header else str(raw.get("dtype") or raw.get("torch_dtype") or "bfloat16")
    if dtype not in _ITEM_BYTES:
        raise ValueError(f"the embedding is stored as {dtype}, not as one of {', '.join(_ITEM_BYTES)}")
    return _ITEM_BYTES[dtype]


def _eos_ids(directory: Path, raw: dict[str, Any]) -> frozenset[int]:
    """generation_config.json knows them best: a chat model ends its turn by another token than its text."""
    file = "generation_config.json"
    generation = _read_object(directory, file) if (directory / file).exists() else {}
    found = generation.get("eos_token_id")
    found = raw.get("eos_token_id") if found is None else found
    return frozenset(found if isinstance(found, list) else [] if found is None else [found])
