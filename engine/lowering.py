"""A PEFT adapter -> the engine's one form. Pure functions on tensors, run off the decode path.

What is not known is refused, by tensor name and by configuration key: several methods share LoRA's tensor names and
mean something else by them.
"""

from collections.abc import Callable, Collection, Mapping
from math import ceil, isqrt, sqrt
from typing import Any

import torch
from torch import Tensor

from adapters_store.package import HostAdapter
from engine.errors import AdapterIncompatible
from engine.model.delta import Delta, LinearDelta

PREFIX = "base_model.model.model."

# Keys that say how an adapter was made or where, and do not change what its tensors mean.
INERT_KEYS = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "target_modules", "exclude_modules", "lora_dropout", "layers_to_transform", "layers_pattern", "megatron_core",
    "init_ia3_weights", "qalora_group_size", "rank_dropout", "module_dropout", "rank_dropout_scale",
    "decompose_both", "decompose_factor", "use_effective_conv2d", "init_weights",
}  # fmt: skip
# Keys that the lowering reads.
LORA_KEYS = {
    "r",
    "lora_alpha",
    "use_rslora",
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "init_lora_weights",
    "bias",
}
IA3_KEYS = {"feedforward_modules"}
LOKR_KEYS = {"r", "alpha", "rank_pattern", "alpha_pattern"}
# Initialisations that leave the base weights as they were; the others move a part of W into the adapter.
PLAIN_INITS = (True, False, "gaussian", "orthogonal")

LARGEST_SETTING = 1e300
"""Of ranks and alphas; integers in JSON have no bound."""

WeightOf = Callable[[str], Tensor]
Part = Mapping[str, Tensor]


class Lowering:
    """Lowers adapters onto one base: knows its layer shapes and the weights that it really serves."""

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        weight_of: WeightOf,
        hidden: int,
        max_rank: int,
        max_virtual: int,
    ) -> None:
        self.shapes, self.weight_of, self.hidden = shapes, weight_of, hidden
        self.max_rank, self.max_virtual = max_rank, max_virtual

    def lower(self, adapter: HostAdapter) -> Delta:
        """Tensors come back in fp32 on the CPU. Raises AdapterIncompatible naming the key or tensor at fault."""
        name, config = adapter.manifest.name, adapter.config
        try:
            kind = config.get("peft_type")
            if kind == "LORA":
                linears = self._each_layer(adapter, config, LORA_KEYS, self._lower_lora)
            elif kind == "IA3":
                linears = self._each_layer(adapter, config, IA3_KEYS, self._lower_ia3)
            elif kind == "LOKR":
                linears = self._each_layer(adapter, config, LOKR_KEYS, self._lower_lokr)
            else:
                raise ValueError(f"peft_type {kind!r} is not one of LORA, IA3, LOKR")
            prompt = self._prompt(adapter.soft_prompt)
            return Delta(adapter.generation, name, linears, prompt, adapter.manifest.adapter.kind)
        except ValueError as fault:
            raise AdapterIncompatible(name, str(fault)) from fault

    def _each_layer(
        self,
        adapter: HostAdapter,
        config: Mapping[str, Any],
        known: set[str],
        lower: Callable[[str, Part, Mapping[str, Any]], LinearDelta],
    ) -> dict[str, LinearDelta]:
        for key, value in config.items():
            if value and key not in known | INERT_KEYS:
                raise ValueError(f"adapter_config.json sets {key} to {value!r}, which is not supported")
        layers = self._by_layer(adapter.tensors)
        self._check_complete(layers, config)
        return {layer: lower(layer, part, config) for layer, part in layers.items()}

    def _check_complete(self, layers: Collection[str], config: Mapping[str, Any]) -> None:
        """A file that lost a part of its tensors would be served as another adapter."""
        targets = config.get("target_modules")
        if not isinstance(targets, list | tuple) or config.get("layers_to_transform") or config.get("exclude_modules"):
            return
        for layer in self.shapes:
            if layer not in layers and any(f".model.{layer}".endswith(f".{target}") for target in targets):
                raise ValueError(f"{layer} is one of its target_modules and has no tensors")

    def _by_layer(self, tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """layer name -> what follows it in the tensor's name -> tensor in fp32."""
        layers: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind = next((kind for kind in ("lora_", "ia3_", "lokr_") if f".{kind}" in name), "")
            layer, _, tail = name.removeprefix(PREFIX).partition(f".{kind}" if kind else "\0")
            if layer not in self.shapes or not name.startswith(PREFIX):
                raise ValueError(f"tensor {name!r} belongs to no linear layer of this base")
            if not tensor.isfinite().all():
                raise ValueError(f"tensor {name!r} has values that are not finite")
            layers.setdefault(layer, {})[kind + tail] = tensor.float()
        return layers

    def _lower_lora(self, layer: str, part: Part, config: Mapping[str, Any]) -> LinearDelta:
        """LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023) and DoRA (Liu et al. 2024, equation 5)."""
        dora = bool(config.get("use_dora"))
        _only(layer, part, {"lora_A.weight", "lora_B.weight"} | ({"lora_magnitude_vector"} if dora else set()))
        if config.get("bias", "none") != "none":
            raise ValueError(f"bias {config['bias']!r} is not supported: the base has no biases")
        if config.get("init_lora_weights", True) not in PLAIN_INITS:
            raise ValueError(f"init_lora_weights {config['init_lora_weights']!r} changes the base's own weights")
        a, b = part["lora_A.weight"], part["lora_B.weight"]
        out, inner = self.shapes[layer]
        rank = len(a) if a.ndim else 0
        _shaped(layer, "A", a, (rank, inner))
        _shaped(layer, "B", b, (out, rank))
        if rank > self.max_rank:
            raise ValueError(f"rank {rank} of {layer} is above the limit of {self.max_rank}")
        if rank != _setting(config, "r", "rank_pattern", layer):
            raise ValueError(f"{layer} has rank {rank}, adapter_config.json says otherwise")
        alpha = _setting(config, "lora_alpha", "alpha_pattern", layer)
        b = b * (alpha / (sqrt(rank) if config.get("use_rslora") else rank))
        if not dora:
            return LinearDelta(a=a, b=b.t().contiguous())
        magnitude = part["lora_magnitude_vector"].flatten()
        _shaped(layer, "magnitude", magnitude, (out,))
        norms = torch.addmm(self.weight_of(layer).float().cpu(), b, a).norm(dim=1)
        if not (norms > 0).all():
            raise ValueError(f"{layer} has an output whose weights are all zero, which DoRA cannot scale")
        ratio = magnitude / norms
        return LinearDelta(a=a, b=(ratio[:, None] * b).t().contiguous(), g=ratio - 1)

    def _lower_ia3(self, layer: str, part: Part, config: Mapping[str, Any]) -> LinearDelta:
        """IA3 (Liu et al. 2022): feed-forward modules scale their input, all others their output."""
        _only(layer, part, {"ia3_l"})
        feedforward = config.get("feedforward_modules") or ()
        modules = (feedforward,) if isinstance(feedforward, str) else feedforward
        if not isinstance(modules, list | tuple) or not all(isinstance(module, str) for module in modules):
            raise ValueError(f"feedforward_modules is {feedforward!r}, not a list of names")
        out, inner = self.shapes[layer]
        scale = part["ia3_l"]
        if any(layer == module or layer.endswith(f".{module}") for module in modules):
            _shaped(layer, "scale", scale, (1, inner))
            return LinearDelta(c=scale.flatten() - 1)
        _shaped(layer, "scale", scale, (out, 1))
        return LinearDelta(g=scale.flatten() - 1)

    def _lower_lokr(self, layer: str, part: Part, config: Mapping[str, Any]) -> LinearDelta:
        """LoKr (Yeh et al. 2024): W' = W + alpha / r * (W1 (x) W2), where each factor may itself be a product."""
        names: set[str] = set()
        for factor in ("lokr_w1", "lokr_w2"):
            names |= {factor} if factor in part else {f"{factor}_a", f"{factor}_b"}
        _only(layer, part, names)
        for name, tensor in part.items():
            if tensor.ndim != 2:
                raise ValueError(f"{name} of {layer} has shape {list(tensor.shape)}, not that of a matrix")
        rank = _setting(config, "r", "rank_pattern", layer)
        scale = _setting(config, "alpha", "alpha_pattern", layer) / rank
        k = part["lokr_w1"] if "lokr_w1" in part else _product(layer, "lokr_w1", part, rank)
        if "lokr_w2" not in part:
            _product(layer, "lokr_w2", part, rank)
            a, b = part["lokr_w2_b"], part["lokr_w2_a"].t()
        elif len(w2 := part["lokr_w2"]) <= w2.shape[1]:
            a, b = w2, torch.eye(len(w2))
        else:
            a, b = torch.eye(w2.shape[1]), w2.t()
        out, inner = self.shapes[layer]
        shape = (k.shape[0] * b.shape[1], k.shape[1] * a.shape[1])
        if shape != (out, inner):
            raise ValueError(f"W1 (x) W2 of {layer} has shape {list(shape)}, the base needs {[out, inner]}")
        if k.numel() > isqrt(out) * isqrt(inner):
            raise ValueError(f"W1 of {layer} has {k.numel()} values, a slot holds {isqrt(out) * isqrt(inner)}")
        if (rank := len(a)) > (most := min(a.shape[1], b.shape[1])):
            raise ValueError(f"W2 of {layer} has rank {rank}, of its shape {most} is the most that means anything")
        if (place := ceil(max(a.numel() / inner, b.numel() / out))) > self.max_rank:
            raise ValueError(f"W2 of {layer} takes the place of rank {place}, the limit is {self.max_rank}")
        return LinearDelta(a=a, b=(b * scale).contiguous(), k=k)

    def _prompt(self, prompt: Tensor | None) -> Tensor | None:
        if prompt is None:
            return None
        if prompt.ndim != 2 or prompt.shape[1] != self.hidden:
            raise ValueError(f"the soft prompt has shape {list(prompt.shape)}, the base needs [tokens, {self.hidden}]")
        if prompt.shape[0] > self.max_virtual:
            raise ValueError(f"the soft prompt has {prompt.shape[0]} tokens, the limit is {self.max_virtual}")
        return prompt.to(torch.float32)


def _setting(config: Mapping[str, Any], key: str, pattern_key: str, layer: str) -> float:
    """A number that a pattern may override by the end of the layer's full name, as in PEFT."""
    value, pattern = config.get(key), config.get(pattern_key) or {}
    if not isinstance(pattern, Mapping):
        raise ValueError(f"{pattern_key} is {pattern!r}, not an object")
    for name, override in pattern.items():
        if not name.replace(".", "").replace("_", "").isalnum():
            raise ValueError(f"{name!r} of {pattern_key} is a regular expression, which is not supported")
        if f".model.{layer}".endswith(f".{name}"):
            value = override
            break
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST_SETTING:
        raise ValueError(f"{key} of {layer} is {str(value)[:32]}, not a number above 0 and below {LARGEST_SETTING}")
    return value


def _only(layer: str, part: Part, names: set[str]) -> None:
    if set(part) != names:
        odd = sorted(set(part) ^ names)[0]
        raise ValueError(f"{layer} {'has an unexpected' if odd in part else 'lacks its'} tensor {odd!r}")


def _product(layer: str, factor: str, part: Part, rank: float) -> Tensor:
    """A factor of LoKr that is a product of rank `rank` itself."""
    left, right = part[f"{factor}_a"], part[f"{factor}_b"]
    for name, found in ((f"{factor}_a", left.shape[1]), (f"{factor}_b", right.shape[0])):
        if found != rank:
            raise ValueError(f"{name} of {layer} has rank {found}, adapter_config.json says otherwise")
    return left @ right


def _shaped(layer: str, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{what} of {layer} has shape {list(tensor.shape)}, the base needs {list(shape)}")
