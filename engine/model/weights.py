"""A checkpoint directory of safetensors -> a Transformer, quantized layer by layer as it is read."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from safetensors import safe_open
from torch import Tensor

from engine.config import CPU_ONLY, EngineConfig
from engine.model.checkpoint import check_shapes, read_headers
from engine.model.config import EMBEDDING, HEAD, FusedKind, ModelConfig, fused_kind, num_scratch_blocks
from engine.model.cuda_graphs import CudaRecorder
from engine.model.delta import AdaptedLinear
from engine.model.kernels import make_kernel
from engine.model.layers import KVCache
from engine.model.native import NativeCache, NativeLinear, NativeTransformer
from engine.model.native_library import library
from engine.model.native_weights import native_weight
from engine.model.transformer import LINEARS, Layer, Transformer
from engine.model.triton import AVAILABLE

if AVAILABLE:
    from engine.model.cuda import TritonLinear, TritonTransformer

ReadTensor = Callable[[str], Tensor]


def compute_dtype(config: EngineConfig) -> torch.dtype:
    """fp32 around int8 and int4 weights on a CPU; bf16 where the weights are bf16 or NF4."""
    return torch.float32 if config.quantization in (*CPU_ONLY, "fp32") else torch.bfloat16


def adapter_dtype(config: EngineConfig, model: ModelConfig) -> torch.dtype:
    """Of A and B in the slots."""
    return torch.bfloat16 if fused_kind(config, model) == "native" else compute_dtype(config)


def are_kernels_there(kind: FusedKind | None) -> bool:
    """Whether the fused kernels of this kind were built for this machine, or installed."""
    if kind == "native":
        return library() is not None
    return AVAILABLE or kind is None


def load_transformer(config: EngineConfig, model: ModelConfig, kv_blocks: int) -> Transformer:
    """Raises UnsupportedModel where the checkpoint does not hold exactly the tensors that the model uses."""
    device, dtype = torch.device(config.device), compute_dtype(config)
    headers = read_headers(config.base)
    # Some checkpoints store a tied head all the same.
    check_shapes(config.base, headers, model.tensor_shapes(), ignored={HEAD})
    with ExitStack() as files:
        handles = {path: files.enter_context(safe_open(path, "pt")) for path in {h.file for h in headers.values()}}

        def read_stored(name: str) -> Tensor:
            tensor: Tensor = handles[headers[name].file].get_tensor(name)
            return tensor.to(device)

        def read(name: str) -> Tensor:
            return read_stored(name).to(dtype)

        # A copy: a view would keep the whole file mapped.
        embedding = read_stored(EMBEDDING).clone()
        head = embedding.to(dtype) if model.tied_embeddings else read(HEAD)
        kind = fused_kind(config, model)
        positions = (kv_blocks + num_scratch_blocks(config, model)) * config.block_size
        layers = [_layer(read, index, config, model, positions) for index in range(model.num_layers)]
        prompts = embedding.new_zeros(config.num_slots, config.max_virtual_tokens, model.hidden_size, dtype=dtype)
        # NF4 would dequantize the whole vocabulary in every step, beside the embedding that is there anyway.
        head_quantization = "bf16" if config.quantization == "nf4" else config.quantization
        kernel = native_weight(head, config.quantization) if kind == "native" else make_kernel(head, head_quantization)
        parts = (model, embedding, kernel, read("model.norm.weight"), layers, prompts, config.block_size)
        if kind == "triton":
            fused = TritonTransformer(*parts)
            if device.type == "cuda":
                fused.record(config, CudaRecorder())
            return fused
        return NativeTransformer(*parts) if kind == "native" else Transformer(*parts)


def _layer(read: ReadTensor, index: int, config: EngineConfig, model: ModelConfig, positions: int) -> Layer:
    prefix, kind, int8_cache = f"model.layers.{index}", fused_kind(config, model), config.kv_dtype == "int8"
    gain = read(f"{prefix}.input_layernorm.weight")
    linears: dict[str, AdaptedLinear] = {}
    for name in LINEARS:
        linears[name] = _linear(read(f"{prefix}.{name}.weight"), config, kind, gain)
    cache = (
        NativeCache(positions, model, int8_cache)
        if kind == "native"
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


def _linear(weight: Tensor, config: EngineConfig, kind: FusedKind | None, like: Tensor) -> AdaptedLinear:
    room = (config.num_slots, config.max_rank, like)
    if kind == "native":
        return NativeLinear(native_weight(weight, config.quantization), *room)
    kernel, shape = make_kernel(weight, config.quantization), (weight.shape[0], weight.shape[1])
    return TritonLinear(kernel, shape, *room) if kind == "triton" else AdaptedLinear(kernel, shape, *room, like.dtype)
