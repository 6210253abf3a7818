"""A checkpoint directory of safetensors -> a Transformer, quantized layer by layer as it is read."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from safetensors import safe_open
from torch import Tensor

from engine.config import EngineConfig
from engine.errors import UnsupportedModel
from engine.model.config import ModelConfig
from engine.model.delta import AdaptedLinear
from engine.model.kernels import make_kernel
from engine.model.layers import KVCache
from engine.model.native import NativeCache, NativeInt8, NativeLinear, NativeTransformer, supports
from engine.model.transformer import LINEARS, Layer, Transformer

ReadTensor = Callable[[str], Tensor]


def compute_dtype(config: EngineConfig) -> torch.dtype:
    """fp32 around int8 weights on a CPU; bf16 where the weights are bf16 or NF4."""
    return torch.float32 if config.quantization in ("int8", "fp32") else torch.bfloat16


def is_native(config: EngineConfig, model: ModelConfig) -> bool:
    """Whether the fused CPU kernels serve this base."""
    return config.device == "cpu" and config.quantization == "int8" and supports(model, config.block_size)


def adapter_dtype(config: EngineConfig, model: ModelConfig) -> torch.dtype:
    """Of A and B in the slots."""
    return torch.bfloat16 if is_native(config, model) else compute_dtype(config)


def kv_bytes_per_position(config: EngineConfig, model: ModelConfig) -> int:
    """Of all layers' keys and values."""
    heads = 2 * model.num_layers * model.num_kv_heads
    if config.kv_dtype == "int8":
        return heads * (model.head_dim + 4)
    return heads * model.head_dim * adapter_dtype(config, model).itemsize


def load_transformer(config: EngineConfig, model: ModelConfig, kv_blocks: int) -> Transformer:
    """Raises UnsupportedModel where the checkpoint lacks a tensor or holds one that the model does not use."""
    device, dtype = torch.device(config.device), compute_dtype(config)
    with ExitStack() as files:
        handles = [files.enter_context(safe_open(path, "pt")) for path in sorted(config.base.glob("*.safetensors"))]
        holder = {name: handle for handle in handles for name in handle.keys()}
        unread = set(holder)

        def read_stored(name: str) -> Tensor:
            if name not in holder:
                raise UnsupportedModel(f"{config.base}: the checkpoint has no tensor {name!r}")
            unread.discard(name)
            tensor: Tensor = holder[name].get_tensor(name)
            return tensor.to(device)

        def read(name: str) -> Tensor:
            return read_stored(name).to(dtype)

        embedding = read_stored("model.embed_tokens.weight")
        unread.discard("lm_head.weight")  # some checkpoints store a tied head all the same
        head = embedding.to(dtype) if model.tied_embeddings else read("lm_head.weight")
        positions = kv_blocks * config.block_size
        layers = [_layer(read, index, config, model, positions) for index in range(model.num_layers)]
        prompts = embedding.new_zeros(config.num_slots, config.max_virtual_tokens, model.hidden_size, dtype=dtype)
        native = is_native(config, model)
        # NF4 would dequantize the whole vocabulary in every step, beside the embedding that is there anyway.
        head_quantization = "bf16" if config.quantization == "nf4" else config.quantization
        transformer = (NativeTransformer if native else Transformer)(
            model,
            embedding,
            NativeInt8(head) if native else make_kernel(head, head_quantization),
            read("model.norm.weight"),
            layers,
            prompts,
            config.block_size,
        )
        if unread:
            raise UnsupportedModel(f"{config.base}: the model has no place for tensor {min(unread)!r}")
    return transformer


def _layer(read: ReadTensor, index: int, config: EngineConfig, model: ModelConfig, positions: int) -> Layer:
    prefix, native, int8_cache = f"model.layers.{index}", is_native(config, model), config.kv_dtype == "int8"
    gain = read(f"{prefix}.input_layernorm.weight")
    linears: dict[str, AdaptedLinear] = {}
    for name in LINEARS:
        weight = read(f"{prefix}.{name}.weight")
        shape = (weight.shape[0], weight.shape[1])
        if native:
            linears[name] = NativeLinear(NativeInt8(weight), config.num_slots, config.max_rank, gain)
        else:
            kernel = make_kernel(weight, config.quantization)
            linears[name] = AdaptedLinear(kernel, shape, config.num_slots, config.max_rank, gain, gain.dtype)
    cache = (
        NativeCache(positions, model, int8_cache)
        if native
        else KVCache(positions, model.num_kv_heads, model.head_dim, gain, int8_cache)
    )
    return Layer(
        linears=linears,
        input_norm=gain,
        post_norm=read(f"{prefix}.post_attention_layernorm.weight"),
        query_norm=read(f"{prefix}.self_attn.q_norm.weight"),
        key_norm=read(f"{prefix}.self_attn.k_norm.weight"),
        cache=cache,
    )
