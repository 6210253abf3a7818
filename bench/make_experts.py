"""Experts with random values for a base of any size: three sets of ten, as packages in `BASE/experts/SET/NAME`.

Owns the recipes. `ten` has every kind that the engine runs, `ten_lora` the heaviest common case, `ten_attention` goes
to llama.cpp as well. Names and shapes are those that PEFT gives on a model without weights.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from adapters_store.fingerprint import base_fingerprint
from adapters_store.manifest import (
    CONFIG_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterKind,
    AdapterSpec,
    Manifest,
    SoftPromptSpec,
)
from adapters_store.package import write_package
from adapters_store.tensors import SOFT_PROMPT_TENSOR
from training.experts import ATTENTION, MLP, PeftConfig, ia3, lokr, lora

PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Recipe:
    kind: AdapterKind
    config: Callable[[], PeftConfig]
    virtual_tokens: int = 0


def _ten_of(recipe: Recipe) -> dict[str, Recipe]:
    return {f"lora-{number}": recipe for number in range(10)}


SETS: Mapping[str, Mapping[str, Recipe]] = {
    "ten": {
        **{f"ia3-{number}": Recipe("ia3", ia3, 8) for number in range(4)},
        "dora-8": Recipe("dora", lambda: lora(8, ATTENTION, dora=True)),
        "dora-12": Recipe("dora", lambda: lora(12, ATTENTION, dora=True)),
        "dora-16": Recipe("dora", lambda: lora(16, ATTENTION, dora=True)),
        "dora-24": Recipe("dora", lambda: lora(24, [*ATTENTION, "up_proj", "down_proj"], dora=True)),
        "lokr-16": Recipe("lokr", lambda: lokr(16, 8, ATTENTION + MLP)),
        "lora-16": Recipe("lora", lambda: lora(16, ATTENTION + MLP)),
    },
    "ten_lora": _ten_of(Recipe("lora", lambda: lora(16, ATTENTION + MLP))),
    "ten_attention": _ten_of(Recipe("lora", lambda: lora(16, ATTENTION))),
}


def random_tensors(config: PeftConfig, base: Path, generator: torch.Generator) -> dict[str, Tensor]:
    """bf16, by PEFT's names: all parts differ from what does nothing, and change the base by little."""
    with torch.device("meta"):
        shapes = get_peft_model_state_dict(get_peft_model(Qwen3ForCausalLM(Qwen3Config.from_pretrained(base)), config))
    found = {}
    with safe_open(base / "model.safetensors", "pt") as weights:
        for name, like in shapes.items():
            values = torch.empty(like.shape)
            if name.endswith("lora_magnitude_vector"):
                layer = name.removeprefix(PREFIX).removesuffix(".lora_magnitude_vector")
                norms = weights.get_tensor(f"{layer}.weight").float().norm(dim=1).view(like.shape)
                values = norms * values.uniform_(0.95, 1.05, generator=generator)
            elif name.endswith("ia3_l"):
                values.uniform_(0.9, 1.1, generator=generator)
            elif "lora_B" in name:
                values.normal_(0, 0.005, generator=generator)
            elif "lokr" in name:
                values.normal_(0, 0.05, generator=generator)
            else:
                values.normal_(0, like.shape[1] ** -0.5, generator=generator)
            found[name] = values.to(torch.bfloat16)
    return found


def config_json(config: PeftConfig) -> bytes:
    """As PEFT writes it."""
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    return json.dumps(plain, indent=2, sort_keys=True).encode()


def make_expert(directory: Path, recipe: Recipe, base: Path, fingerprint: str, generator: torch.Generator) -> None:
    """One package of random values, called as its directory."""
    config = recipe.config()
    files = {CONFIG_FILE: config_json(config), WEIGHTS_FILE: save(random_tensors(config, base, generator))}
    if recipe.virtual_tokens:
        hidden = Qwen3Config.from_pretrained(base).hidden_size
        rows = torch.empty(recipe.virtual_tokens, hidden).normal_(0, 0.02, generator=generator)
        files[SOFT_PROMPT_FILE] = save({SOFT_PROMPT_TENSOR: rows.to(torch.bfloat16)})
    manifest = Manifest(
        name=directory.name,
        version="1.0.0",
        description="Random values, made to measure speed.",
        base=fingerprint,
        adapter=AdapterSpec(recipe.kind, getattr(config, "r", None), tuple(sorted(config.target_modules or ()))),
        soft_prompt=SoftPromptSpec(recipe.virtual_tokens) if recipe.virtual_tokens else None,
    )
    write_package(directory, manifest, files)


def make_experts(base: Path, seed: int) -> None:
    """All sets, replacing packages of the same names; the same seed gives the same values."""
    generator = torch.Generator().manual_seed(seed)
    fingerprint = base_fingerprint(base)
    for chosen, recipes in SETS.items():
        for name, recipe in recipes.items():
            make_expert(base / "experts" / chosen / name, recipe, base, fingerprint, generator)
