"""The tensors of a package: from bytes that somebody else wrote to values that can be served.

Owns what a tensor file may hold: safetensors of 16 or 32 bits, finite, in the shapes that its kind implies. Knows no
base, so whether a shape fits a layer is the engine's to say. Called by `package`.
"""

from collections.abc import Mapping

import safetensors
import torch
from safetensors.torch import load as load_safetensors

from adapters_store.errors import PackageInvalid
from adapters_store.manifest import SOFT_PROMPT_FILE, WEIGHTS_FILE, AdapterSpec

SOFT_PROMPT_TENSOR = "prompt_embeddings"  # PEFT's name for it
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)

Tensors = Mapping[str, torch.Tensor]


def read_tensors(name: str, file: str, content: bytes) -> dict[str, torch.Tensor]:
    """By key, of package `name`. Raises PackageInvalid that names the file and the tensor."""
    try:
        tensors = load_safetensors(content)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        fault = f"{file} is not a readable safetensors file: {error}"
        raise PackageInvalid(name, fault, "safetensors_invalid") from error
    for key, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            fault = f"{file}: {key} is {tensor.dtype}, not float32, float16 or bfloat16"
            raise PackageInvalid(name, fault, "tensor_dtype")
        if not torch.isfinite(tensor).all():
            raise PackageInvalid(name, f"{file}: {key} holds a value that is not finite", "tensor_not_finite")
    if not tensors:
        raise PackageInvalid(name, f"{file} holds no tensor", "tensor_missing")
    return tensors


def read_soft_prompt(name: str, tokens: int, content: bytes) -> torch.Tensor:
    """[tokens, hidden]."""
    tensors = read_tensors(name, SOFT_PROMPT_FILE, content)
    rows = tensors.get(SOFT_PROMPT_TENSOR)
    if rows is None or len(tensors) != 1:
        found = ", ".join(sorted(tensors))
        fault = f"{SOFT_PROMPT_FILE} holds {found}, not {SOFT_PROMPT_TENSOR} alone"
        raise PackageInvalid(name, fault, "soft_prompt_invalid")
    if rows.dim() != 2 or rows.shape[0] != tokens:
        fault = f"{SOFT_PROMPT_FILE} has the shape {list(rows.shape)}, not [{tokens}, hidden]"
        raise PackageInvalid(name, fault, "soft_prompt_invalid")
    return rows


def check_shapes(
    name: str, adapter: AdapterSpec, config: Mapping[str, object], tensors: Tensors, max_rank: int | None
) -> None:
    """Raises PackageInvalid where a kind's tensors cannot belong together, or a rank is above the limit."""
    if adapter.kind in ("lora", "dora"):
        is_uneven = bool(config.get("rank_pattern"))
        for module in sorted({key.partition(".lora_")[0] for key in tensors if ".lora_" in key}):
            rank = _low_rank(name, module, tensors)
            if rank != adapter.rank and not is_uneven:
                fault = f"{WEIGHTS_FILE}: {module} has rank {rank}, the manifest says {adapter.rank}"
                raise PackageInvalid(name, fault, "rank_mismatch")
            if max_rank is not None and rank > max_rank:
                fault = f"{WEIGHTS_FILE}: {module} has rank {rank}, the limit is {max_rank}"
                raise PackageInvalid(name, fault, "rank_too_large")
        return
    for key, tensor in tensors.items():
        if tensor.dim() != 2 or (adapter.kind == "ia3" and 1 not in tensor.shape):
            expected = "a column or a row" if adapter.kind == "ia3" else "a matrix"
            fault = f"{WEIGHTS_FILE}: {key} has the shape {list(tensor.shape)}, which is not {expected}"
            raise PackageInvalid(name, fault, "tensor_shape")


def _low_rank(name: str, module: str, tensors: Tensors) -> int:
    """The rank r of A [r, in] and B [out, r]; names that are not LoRA's are left for the engine to refuse."""
    pair = {key: tensors.get(f"{module}.{key}") for key in ("lora_A.weight", "lora_B.weight")}
    shapes = {}
    for key, tensor in pair.items():
        if tensor is None:
            raise PackageInvalid(name, f"{WEIGHTS_FILE}: {module} has no {key}", "tensor_missing")
        if tensor.dim() != 2:
            fault = f"{WEIGHTS_FILE}: {module}.{key} has the shape {list(tensor.shape)}, not that of a matrix"
            raise PackageInvalid(name, fault, "tensor_shape")
        shapes[key] = list(tensor.shape)
    rank, columns = shapes["lora_A.weight"][0], shapes["lora_B.weight"][1]
    if rank != columns:
        fault = f"{WEIGHTS_FILE}: {module} has A of rank {rank} and B of rank {columns}"
        raise PackageInvalid(name, fault, "tensor_shape")
    return int(rank)
