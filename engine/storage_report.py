"""What storage in fewer bits costs an adapter, found without an engine: for people who choose a storage.

Lowers a package onto the shapes of a base's checkpoint as an engine would. Weights of the base are read only where
lowering asks for them, which is DoRA, a layer at a time and as they lie in the checkpoint: what their quantization does
to the norms is too little to show in these figures. Called by the operator's commands.
"""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from safetensors import safe_open
from torch import Tensor

from adapters_store.fingerprint import base_fingerprint
from adapters_store.package import HostAdapter
from engine.config import AdapterStorage, EngineConfig
from engine.errors import AdapterIncompatible
from engine.lowering import Lowering
from engine.model.checkpoint import read_headers
from engine.model.config import read_config
from engine.model.delta import Delta, LinearDelta
from engine.packing import PackingError, packing_error

SLOTS = torch.bfloat16
"""What A and B are in the slots that serve by default, on a CPU and on CUDA."""


def storage_report(adapter: HostAdapter, base: Path) -> tuple[PackingError, ...]:
    """Bytes and error of every storage against that of the slots. `base` is the directory of a checkpoint.

    Raises AdapterIncompatible for what does not fit it and for DoRA that was made for another, UnsupportedModel for a
    base that cannot be read. DoRA takes a second or two for each gigabyte of the base, all else milliseconds.
    """
    delta = _lowered(adapter, base)
    return tuple(packing_error(delta, storage) for storage in get_args(AdapterStorage))


def _lowered(adapter: HostAdapter, base: Path) -> Delta:
    manifest, shape = adapter.manifest, read_config(base)
    if manifest.adapter.kind == "dora" and manifest.base != base_fingerprint(base):
        raise AdapterIncompatible(
            manifest.name, f"DoRA scales the weights of its base, {manifest.base}, not of this one"
        )
    shapes = {
        f"layers.{index}.{name}": sizes
        for index in range(shape.num_layers)
        for name, sizes in shape.linear_shapes.items()
    }
    headers = read_headers(base)

    def weight_of(layer: str) -> Tensor:
        name = f"model.{layer}.weight"
        with safe_open(headers[name].file, "pt") as file:
            weight: Tensor = file.get_tensor(name)
            return weight

    limits = EngineConfig(base)
    lowering = Lowering(shapes, weight_of, shape.hidden_size, limits.max_rank, limits.max_virtual_tokens)
    delta = lowering.lower(adapter)
    return replace(delta, linears={layer: _as_in_slots(linear) for layer, linear in delta.linears.items()})


def _as_in_slots(linear: LinearDelta) -> LinearDelta:
    if linear.a is None or linear.b is None:
        return linear
    return replace(linear, a=linear.a.to(SLOTS), b=linear.b.to(SLOTS))
