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
from engine.model.transformer import LINEARS, Layer, Transformer

ReadTensor = Callable[[str], Tensor]


def compute_dtype(config: EngineConfig) -> torch.dtype:
    """fp32 around int8 weights on a CPU; bf16 where the weights are bf16 or NF4."""
    return torch.float32 if config.quantization in ("int8", "fp32") else torch.bfloat16


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
        # NF4 would dequantize the whole vocabulary in every step, beside the embedding that is there anyway.
        head_kernel = make_kernel(head, "bf16" if config.quantization == "nf4" else config.quantization)
        transformer = Transformer(
            model,
            embedding,
            head_kernel,
            read("model.norm.weight"),
            layers,
            prompts,
            config.block_size,
        )
        if unread:
            raise UnsupportedModel(f"{config.base}: the model has no place for tensor {min(unread)!r}")
    return transformer


def _layer(read: ReadTensor, index: int, config: EngineConfig, model: ModelConfig, positions: int) -> Layer:
    prefix = f"model.layers.{index}"
    gain = read(f"{prefix}.input_layernorm.weight")
    linears = {}
    for name in LINEARS:
        weight = read(f"{prefix}.{name}.weight")
        shape = (weight.shape[0], weight.shape[1])
        linears[name] = AdaptedLinear(
            make_kernel(weight, config.quantization), shape, config.num_slots, config.max_rank, gain, gain.dtype
        )
    return Layer(
        linears=linears,
        input_norm=gain,
        post_norm=read(f"{prefix}.post_attention_layernorm.weight"),
        query_norm=read(f"{prefix}.self_attn.q_norm.weight"),
        key_norm=read(f"{prefix}.self_attn.k_norm.weight"),
        cache=KVCache(positions, model.num_kv_heads, model.head_dim, gain),
    )
