"""Small expert packages, shaped as PEFT writes them; and the same ones broken on purpose."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save

from adapters_store.cache import AdapterCache, Lease
from adapters_store.manifest import (
    CONFIG_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterSpec,
    FileEntry,
    Manifest,
    RoutingHints,
    SoftPromptSpec,
)
from adapters_store.package import MANIFEST_FILE, HostAdapter
from adapters_store.tensors import SOFT_PROMPT_TENSOR

PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"
HIDDEN = 8


def lora_manifest(name: str = "tiny") -> Manifest:
    return Manifest(
        name=name,
        version="1.2.3",
        description="Says nothing.",
        base="sha256:" + "ab" * 32,
        adapter=AdapterSpec("lora", 2, ("q_proj",)),
        routing=RoutingHints(cues=("say nothing",)),
    )


def lora_config(**changes: object) -> bytes:
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "use_dora": False}
    return json.dumps({**config, **changes}).encode()


def lora_tensors(value: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {
        f"{PREFIX}.lora_A.weight": torch.full((2, HIDDEN), value, dtype=dtype),
        f"{PREFIX}.lora_B.weight": torch.full((HIDDEN, 2), value, dtype=dtype),
    }


def lora_files(value: float = 1.0) -> dict[str, bytes]:
    return {CONFIG_FILE: lora_config(), WEIGHTS_FILE: save(lora_tensors(value))}


def ia3_manifest(name: str = "tiny") -> Manifest:
    spec = AdapterSpec("ia3", None, ("k_proj", "down_proj"))
    return replace(lora_manifest(name), adapter=spec, soft_prompt=SoftPromptSpec(3))


def ia3_files() -> dict[str, bytes]:
    key = "base_model.model.model.layers.0.self_attn.k_proj.ia3_l"
    return {
        CONFIG_FILE: json.dumps({"peft_type": "IA3", "target_modules": ["k_proj", "down_proj"]}).encode(),
        WEIGHTS_FILE: save({key: torch.ones(HIDDEN, 1)}),
        SOFT_PROMPT_FILE: save({SOFT_PROMPT_TENSOR: torch.ones(3, HIDDEN)}),
    }


def entry(name: str, content: bytes) -> FileEntry:
    return FileEntry(name, len(content), hashlib.sha256(content).hexdigest())


def write_unchecked(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """What a hostile or careless hand would leave: sizes and digests fit, and nothing else is checked."""
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    entries = tuple(entry(name, content) for name, content in files.items())
    (directory / MANIFEST_FILE).write_bytes(replace(manifest, files=entries).to_json())
    return directory


def adapter(generation: str, num_bytes: int) -> HostAdapter:
    return HostAdapter(lora_manifest(), generation, {}, {}, None, None, num_bytes)


def loader(generation: str, num_bytes: int) -> Callable[[], HostAdapter]:
    return lambda: adapter(generation, num_bytes)


def acquire(cache: AdapterCache, name: str, num_bytes: int = 10, content: str = "") -> Lease:
    return cache.acquire(name, content, num_bytes, loader(name + content, num_bytes))


def wait_until(condition: Callable[[], bool]) -> None:
    """For what other threads bring about: there is no event for `ten are waiting`."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it did not come about within five seconds"
        time.sleep(0.001)
