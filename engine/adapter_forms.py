"""The forms of an adapter on its way to a slot: package -> lowered -> stored, and back to what a slot takes.

Knows the base's shapes, the slots' dtypes and limits and the storage that was asked for. Pure functions of tensors,
called by the host tier's threads.
"""

from dataclasses import replace

import torch
from torch import Tensor

from adapters_store.package import HostAdapter
from engine.config import EngineConfig
from engine.errors import AdapterIncompatible
from engine.lowered_files import FilesConfig
from engine.lowered_format import SlotLayout
from engine.lowering import Lowering
from engine.model.config import ModelConfig, fused_kind
from engine.model.delta import Delta, LinearDelta
from engine.model.memory import give_back
from engine.model.transformer import Transformer
from engine.model.weights import adapter_dtype, compute_dtype
from engine.packing import StoredDelta, pack, unpack


class AdapterForms:
    def __init__(self, config: EngineConfig, shape: ModelConfig, model: Transformer, fingerprint: str) -> None:
        self.config, self._fingerprint = config, fingerprint
        self._is_pinned = config.device != "cpu"
        self._fused = fused_kind(config, shape)
        self._layout = SlotLayout(
            shapes={name: linear.shape for name, linear in model.linears.items()},
            hidden=shape.hidden_size,
            max_rank=config.max_rank,
            max_virtual=config.max_virtual_tokens,
            dtype=compute_dtype(config),
            low_rank=adapter_dtype(config, shape),
        )
        weights = {name: linear.kernel.dequantized for name, linear in model.linears.items()}
        limits = (config.max_rank, config.max_virtual_tokens)
        self._lowering = Lowering(self._layout.shapes, lambda name: weights[name](), shape.hidden_size, *limits)

    def lower(self, adapter: HostAdapter) -> Delta:
        """As the slots hold it. Raises AdapterIncompatible."""
        delta = self._lowering.lower(adapter)
        layout = self._layout

        def place(tensor: Tensor | None, dtype: torch.dtype = layout.dtype) -> Tensor | None:
            if tensor is None:
                return None
            placed = tensor.to(dtype).contiguous()
            if not placed.isfinite().all():
                raise AdapterIncompatible(delta.name, f"its scaled values do not fit {dtype}")
            return self._pinned(placed)

        linears = {
            name: LinearDelta(
                place(part.a, layout.low_rank), place(part.b, layout.low_rank), *map(place, (part.k, part.g, part.c))
            )
            for name, part in delta.linears.items()
        }
        give_back()
        return replace(delta, linears=linears, prompt=place(delta.prompt))

    def pack(self, delta: Delta) -> StoredDelta:
        return pack(delta, self.config.adapter_storage)

    def unpack(self, stored: StoredDelta) -> Delta:
        """What a slot takes. Raises LoweredDamaged or ValueError for what it has no room for."""
        delta = unpack(stored, self._layout.low_rank)
        self._layout.check(delta)
        if stored.storage == "plain" or not self._is_pinned:
            return delta
        linears = {
            name: LinearDelta(*(None if part is None else self._pinned(part) for part in linear.parts))
            for name, linear in delta.linears.items()
        }
        return replace(delta, linears=linears)

    def files(self) -> FilesConfig | None:
        """Where the lowered forms lie, None where nothing is kept on disk."""
        config, layout = self.config, self._layout
        if config.lowered_dir is None or not config.lowered_bytes:
            return None
        key = " ".join(
            (
                self._fingerprint,
                f"{config.quantization} {self._fused or 'plain'} on {config.device}",
                f"slots {layout.dtype} {layout.low_rank} rank {layout.max_rank} prompt {layout.max_virtual}",
                config.adapter_storage,
            )
        )
        return FilesConfig(config.lowered_dir, config.lowered_bytes, key, config.adapter_storage, self._is_pinned)

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self._is_pinned and not tensor.is_pinned() else tensor
