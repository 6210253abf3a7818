"""A checkpoint and its LoRAs as llama.cpp reads them.

Owns the translation of names, shapes and settings into GGUF; values are quantized by the `gguf` package. Q4_0 holds
every matrix, the head too, where llama.cpp's own tool would give a tied head six bits: fewer bytes, to the peer's
advantage.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import gguf
from gguf.quants import quantize
from safetensors import safe_open
from transformers import AutoTokenizer

from adapters_store.manifest import CONFIG_FILE, WEIGHTS_FILE
from grammars.vocabulary import write_vocab_gguf

ARCHITECTURE = "qwen3"
MODEL_FILES = {
    "base-q8_0.gguf": gguf.GGMLQuantizationType.Q8_0,
    "base-q4_0.gguf": gguf.GGMLQuantizationType.Q4_0,
}
_FILE_TYPES = {
    gguf.GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    gguf.GGMLQuantizationType.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
}
_PEFT_PREFIX = "base_model.model."


def write_model(base: Path, path: Path, quantization: gguf.GGMLQuantizationType) -> None:
    """Matrices quantized, norms in fp32. Raises ValueError for a tensor that GGUF has no name for."""
    config = json.loads((base / "config.json").read_text())
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config["num_hidden_layers"])
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_file_type(_FILE_TYPES[quantization])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _add_shape(writer, config)
    _add_vocabulary(writer, base, config["vocab_size"])
    with safe_open(base / "model.safetensors", "pt") as weights:
        for name in weights.keys():
            values = weights.get_tensor(name).float().numpy()
            kind = quantization if values.ndim == 2 else gguf.GGMLQuantizationType.F32
            writer.add_tensor(_gguf_name(names, name), quantize(values, kind), raw_dtype=kind)
    _write(writer)


def write_lora(adapter: Path, path: Path) -> None:
    """A PEFT LoRA in fp16, for `--lora`. Raises ValueError for a tensor that is neither A nor B."""
    config = json.loads((adapter / CONFIG_FILE).read_text())
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, config["lora_alpha"])
    with safe_open(adapter / WEIGHTS_FILE, "pt") as weights:
        found = {name: weights.get_tensor(name).half().numpy() for name in weights.keys()}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 1 + max(_layer(name) for name in found))
    for name, values in found.items():
        layer, _, factor = name.removeprefix(_PEFT_PREFIX).rpartition(".lora_")
        if factor not in ("A.weight", "B.weight"):
            raise ValueError(f"{adapter.name}: tensor {name!r} is neither A nor B of a LoRA")
        writer.add_tensor(f"{_gguf_name(names, f'{layer}.weight')}.lora_{factor[0].lower()}", values)
    _write(writer)


def _layer(name: str) -> int:
    return int(name.partition(".layers.")[2].partition(".")[0])


def _gguf_name(names: gguf.TensorNameMap, name: str) -> str:
    found: str | None = names.get_name(name, try_suffixes=(".weight",))
    if found is None:
        raise ValueError(f"GGUF has no name for tensor {name!r} of {ARCHITECTURE}")
    return found


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])


def _add_vocabulary(writer: gguf.GGUFWriter, base: Path, vocab_size: int) -> None:
    """The same keys as in the file that the grammars' room writes for its own use."""
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = Path(folder) / "vocabulary.gguf"
        write_vocab_gguf(AutoTokenizer.from_pretrained(base), vocab_size, vocabulary)
        for key, field in gguf.GGUFReader(vocabulary).fields.items():
            if key.startswith("tokenizer."):
                inner = field.types[1] if len(field.types) > 1 else None
                writer.add_key_value(key, field.contents(), field.types[0], inner)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
