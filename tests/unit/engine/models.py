"""A small random base and random adapters of every kind, made by transformers and PEFT: the engine's references."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import IA3Config, LoKrConfig, LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from adapters_store.manifest import AdapterKind, AdapterSpec, Manifest, SoftPromptSpec
from adapters_store.package import HostAdapter

PeftConfig = LoraConfig | IA3Config | LoKrConfig
VOCAB = 97
EOS = 5
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


def save_base(directory: Path, vocab_size: int = VOCAB) -> Path:
    """Random weights with the proportions of a trained model: logits that differ by more than rounding."""
    torch.manual_seed(7)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        eos_token_id=EOS,
        pad_token_id=0,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 1.5 / parameter.shape[1] ** 0.5)
            else:
                parameter.uniform_(0.5, 1.5)
    model.save_pretrained(directory)
    return directory


def load_reference(directory: Path) -> Qwen3ForCausalLM:
    model: Qwen3ForCausalLM = Qwen3ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    model.eval()
    return model


def greedy(model: Qwen3ForCausalLM, ids: Sequence[int], count: int) -> list[int]:
    """What transformers generates, without the end token."""
    generate: Any = getattr(model, "generate")  # noqa: B009 - its stub takes a self of another type
    found: list[int] = generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False)[0, len(ids) :].tolist()
    return [token for token in found if token != EOS]


@dataclass(frozen=True, slots=True)
class Reference:
    """An adapter as PEFT runs it, and the same as the store would hand it to the engine."""

    base: Qwen3ForCausalLM
    model: PeftModel
    adapter: HostAdapter

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """Of every real position, [len(ids), vocab]."""
        embed: Any = self.base.get_input_embeddings()
        embedded = embed(torch.tensor([list(ids)]))
        prompt = self.adapter.soft_prompt
        if prompt is not None:
            embedded = torch.cat([prompt[None], embedded], 1)
        logits: Tensor = self.model(inputs_embeds=embedded, use_cache=False).logits[0]
        return logits[-len(ids) :]

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        found: list[int] = []
        for _ in range(count):
            found.append(int(self.logits([*ids, *found])[-1].argmax()))
            if found[-1] == EOS:
                return found[:-1]
        return found


def make_reference(base: Path, name: str, config: PeftConfig, virtual: int = 0, seed: int = 0) -> Reference:
    """A PEFT adapter with random values far from its neutral ones."""
    torch.manual_seed(seed + 100)
    reference = load_reference(base)
    model = get_peft_model(reference, config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "lora_A" in key or "lora_B" in key:
                parameter.normal_(0, 0.15)
            elif "magnitude" in key:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.7, 1.3))
            elif "ia3" in key:
                parameter.uniform_(0.5, 1.5)
            elif "lokr" in key:
                parameter.normal_(0, 0.3)
    prompt = torch.randn(virtual, 64) * 0.2 if virtual else None
    return Reference(reference, model.eval(), as_host_adapter(name, model, config, prompt))


def as_host_adapter(name: str, model: PeftModel, config: PeftConfig, prompt: Tensor | None) -> HostAdapter:
    tensors = {key: value.detach().clone() for key, value in get_peft_model_state_dict(model).items()}
    stored = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    stored["peft_type"] = str(getattr(config.peft_type, "value", config.peft_type))
    rank = getattr(config, "r", None)
    kinds: dict[object, AdapterKind] = {"LORA": "lora", "IA3": "ia3", "LOKR": "lokr"}
    kind = "dora" if stored.get("use_dora") else kinds[stored["peft_type"]]
    manifest = Manifest(
        name=name,
        version="1.0.0",
        description="made for a test",
        base="sha256:" + "0" * 64,
        adapter=AdapterSpec(kind, rank, ("q_proj",)),
        soft_prompt=None if prompt is None else SoftPromptSpec(prompt.shape[0]),
    )
    return HostAdapter(manifest, f"generation of {name}", stored, tensors, prompt, None, 0)


def configs() -> dict[str, tuple[PeftConfig, int]]:
    """name -> PEFT configuration and number of virtual tokens."""
    return {
        "lora": (LoraConfig(r=4, lora_alpha=8, target_modules=ATTENTION), 0),
        "rslora": (LoraConfig(r=8, lora_alpha=8, use_rslora=True, target_modules=MLP), 0),
        "dora": (LoraConfig(r=6, lora_alpha=12, use_dora=True, target_modules=ATTENTION + MLP), 0),
        "patterns": (
            LoraConfig(
                r=4,
                lora_alpha=4,
                target_modules=["q_proj", "v_proj"],
                rank_pattern={"v_proj": 7},
                alpha_pattern={"q_proj": 9},
            ),
            0,
        ),
        "ia3": (
            IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
            5,
        ),
        "lokr": (LoKrConfig(r=4, alpha=8, decompose_factor=4, target_modules=ATTENTION + MLP), 0),
        "lokr-both": (
            LoKrConfig(r=2, alpha=2, decompose_both=True, target_modules=MLP, rank_pattern={"down_proj": 1}),
            0,
        ),
        "lokr-whole": (LoKrConfig(r=64, alpha=48, decompose_factor=8, target_modules=["q_proj", "down_proj"]), 3),
        "ia3-plain": (IA3Config(target_modules=["q_proj", "up_proj"], feedforward_modules=["up_proj"]), 0),
    }
