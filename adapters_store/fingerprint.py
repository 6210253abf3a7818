"""The identity of a base model: what an expert was trained on, and what it may be served on.

Owns the definition. Knows neither experts nor how a model computes. Training writes it into manifests; the
server compares it with the base that it loaded.
"""

import hashlib
import json
from pathlib import Path

from adapters_store.errors import BaseModelInvalid

# What decides which function the weights compute; paths, versions and dtypes vary between copies of a model.
_ARCHITECTURE_FIELDS = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "rms_norm_eps",
    "attention_bias",
    "tie_word_embeddings",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "layer_types",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
)


def base_fingerprint(model_dir: Path) -> str:
    """`sha256:<hex>` of the architecture and of every weight; reads all weights: 1-2 s per gigabyte."""
    try:
        config = json.loads((model_dir / "config.json").read_bytes())
    except (OSError, ValueError) as fault:
        raise BaseModelInvalid(str(model_dir), f"config.json: {fault}") from fault
    if not isinstance(config, dict):
        raise BaseModelInvalid(str(model_dir), "config.json is not an object")
    weights = sorted(model_dir.glob("*.safetensors"))
    if not weights:
        raise BaseModelInvalid(str(model_dir), "there is no *.safetensors file")
    architecture = {name: config[name] for name in _ARCHITECTURE_FIELDS if config.get(name) is not None}
    identity = hashlib.sha256(json.dumps(architecture, sort_keys=True, separators=(",", ":")).encode())
    for path in weights:
        with path.open("rb") as file:
            # The digest has a fixed length: no two sets of files can run together into the same bytes.
            identity.update(f"\n{path.name}\n{hashlib.file_digest(file, 'sha256').hexdigest()}".encode())
    return f"sha256:{identity.hexdigest()}"
