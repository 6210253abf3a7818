"""The Qwen3 dense transformer over the tokens of one step, whatever rows they belong to. Top to bottom."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import silu

from engine.model.config import ModelConfig
from engine.model.delta import AdaptedLinear, Delta, Mixtures
from engine.model.kernels import DenseLinear, LinearKernel
from engine.model.layers import KVCache, StepContext, StepInputs, attend, rms_norm
from engine.model.memory import forget
from engine.model.rope import Rotary, rotate

LINEARS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """One block: its linear layers by their name within the block, its norms, its cache."""

    linears: Mapping[str, AdaptedLinear]
    input_norm: Tensor
    post_norm: Tensor
    query_norm: Tensor
    key_norm: Tensor
    cache: KVCache


class Transformer:
    """Holds every tensor of the base, of the slots and of the cache."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Tensor,
        head: LinearKernel,
        norm: Tensor,
        layers: list[Layer],
        prompts: Tensor,
        block_size: int,
    ) -> None:
        self.config, self.embedding, self.head, self.norm, self.layers = config, embedding, head, norm, layers
        self.prompts = prompts  # [slots, max_virtual_tokens, hidden]
        self.block_size = block_size
        self.rotary = Rotary(config.rope, config.head_dim, config.max_positions, embedding.device)
        self.linears = {
            f"layers.{index}.{name}": linear
            for index, layer in enumerate(layers)
            for name, linear in layer.linears.items()
        }

    @property
    def input_device(self) -> torch.device:
        """Where `forward` wants the arrays of a step."""
        return self.embedding.device

    def forward(self, inputs: StepInputs) -> Tensor:
        """Logits in fp32 [sampled, vocab] of the sampled tokens of a step."""
        step, mixtures, eps = (
            StepContext.of(inputs, self.rotary, self.block_size),
            inputs.mixtures,
            self.config.norm_eps,
        )
        hidden = self.embed(inputs.ids)
        for layer in self.layers:
            hidden = hidden + self._attention(layer, rms_norm(hidden, layer.input_norm, eps), step, mixtures)
            hidden = hidden + self._mlp(layer, rms_norm(hidden, layer.post_norm, eps), mixtures)
        return self.head(rms_norm(hidden[inputs.sampled], self.norm, eps)).float()

    def embed(self, ids: Tensor) -> Tensor:
        """Rows of the embedding; ids from `vocab_size` on are virtual tokens, rows of the slots' soft prompts."""
        if not (ids >= self.config.vocab_size).any():
            return self.embedding[ids].to(self.prompts.dtype)
        return self._embed_virtual(ids)

    def _embed_virtual(self, ids: Tensor) -> Tensor:
        virtual = ids - self.config.vocab_size
        real = self.embedding[ids.clamp_max(self.config.vocab_size - 1)].to(self.prompts.dtype)
        soft = self.prompts.flatten(0, 1)[virtual.clamp_min(0)]
        return torch.where((virtual >= 0)[:, None], soft, real)

    def load_slot(self, slot: int, delta: Delta) -> None:
        """Copy an adapter into a slot: no allocation, no change of addresses."""
        for name, linear in self.linears.items():
            linear.load(slot, delta.linears.get(name))
        if delta.prompt is not None:
            self.prompts[slot, : delta.num_virtual].copy_(delta.prompt, non_blocking=True)

    def clear_slot(self, slot: int) -> None:
        """Empty it, and give its memory back as far as the device can take back a part of a tensor."""
        self.load_slot(slot, Delta("", "", {}))
        for linear in self.linears.values():
            for part in (linear.a, linear.b, linear.k, linear.g, linear.c):
                forget(part[slot])
        forget(self.prompts[slot])

    def memory_bytes(self) -> dict[str, int]:
        norms = sum(
            t.nbytes
            for layer in self.layers
            for t in (layer.input_norm, layer.post_norm, layer.query_norm, layer.key_norm)
        )
        kernels = sum(linear.kernel.num_bytes for linear in self.linears.values())
        slots = sum(linear.slot_bytes for linear in self.linears.values()) + self.prompts.nbytes
        is_shared = isinstance(self.head, DenseLinear) and self.head.weight.data_ptr() == self.embedding.data_ptr()
        tables = self.embedding.nbytes + (0 if is_shared else self.head.num_bytes) + self.rotary.num_bytes
        return {
            "base": tables + self.norm.nbytes + norms + kernels,
            "slots": slots,
            "kv": sum(layer.cache.num_bytes for layer in self.layers),
        }

    def _attention(self, layer: Layer, x: Tensor, step: StepContext, mixtures: Mixtures) -> Tensor:
        config, linears = self.config, layer.linears
        query = linears["self_attn.q_proj"](x, mixtures).unflatten(-1, (config.num_heads, config.head_dim))
        key = linears["self_attn.k_proj"](x, mixtures).unflatten(-1, (config.num_kv_heads, config.head_dim))
        value = linears["self_attn.v_proj"](x, mixtures).unflatten(-1, (config.num_kv_heads, config.head_dim))
        query = rotate(rms_norm(query, layer.query_norm, config.norm_eps), step.cos, step.sin)
        key = rotate(rms_norm(key, layer.key_norm, config.norm_eps), step.cos, step.sin)
        mixed = attend(query, key, value, layer.cache, step)
        return linears["self_attn.o_proj"](mixed.flatten(1), mixtures)

    @staticmethod
    def _mlp(layer: Layer, x: Tensor, mixtures: Mixtures) -> Tensor:
        gate, up = layer.linears["mlp.gate_proj"](x, mixtures), layer.linears["mlp.up_proj"](x, mixtures)
        return layer.linears["mlp.down_proj"](silu(gate) * up, mixtures)
