"""Trains one expert with PEFT and publishes its package: `python -m training.expert sql`.

The base stays frozen; the loss is over the strict answer alone. IA3 experts bring a soft prompt, whose rows stand
before the chat template as embeddings of virtual tokens.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import torch
from peft import IA3Config, LoraConfig, PeftModel, PeftType, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save as save_safetensors
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from adapters_store.fingerprint import base_fingerprint
from adapters_store.manifest import (
    CONFIG_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterKind,
    AdapterSpec,
    GrammarRef,
    Manifest,
    SoftPromptSpec,
)
from adapters_store.package import write_package
from adapters_store.tensors import SOFT_PROMPT_TENSOR
from training.corpus import chat
from training.experts import EXPERTS, ExpertSpec, PeftConfig
from training.measure import IGNORED, collate, greedy_matches, unseen
from training.nano import load
from training.tasks import TASKS, Draw, Example
from training.tokenizer import letter_pieces, load_tokenizer
from training.words import Words

BATCH = 16
SEED = 11
PROMPT_STD_SHARE = 0.05
"""Spread of a new soft prompt relative to the base's embeddings."""


class Expert:
    """A PEFT model and, where the recipe has one, its soft prompt."""

    def __init__(self, base: Qwen3ForCausalLM, config: PeftConfig, virtual_tokens: int) -> None:
        self.config = config
        embed = base.get_input_embeddings()
        assert isinstance(embed, torch.nn.Embedding)
        self._embed = embed
        self.model: PeftModel = get_peft_model(base, config)
        self.prompt: Tensor | None = None
        if virtual_tokens:
            spread = embed.weight.std().item() * PROMPT_STD_SHARE
            self.prompt = torch.nn.Parameter(torch.randn(virtual_tokens, embed.embedding_dim) * spread)

    def parameters(self) -> list[torch.nn.Parameter]:
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        return trained + ([self.prompt] if isinstance(self.prompt, torch.nn.Parameter) else [])

    def logits(self, ids: Tensor) -> Tensor:
        """[batch, length, vocab], of the real positions."""
        embedded = self._embed(ids)
        if self.prompt is not None:
            embedded = torch.cat([self.prompt.expand(len(ids), -1, -1), embedded], 1)
        logits: Tensor = self.model(inputs_embeds=embedded, use_cache=False).logits
        return logits[:, -ids.shape[1] :]


def draw_batch(words: Words, draw: Draw, name: str) -> list[tuple[str, str]]:
    """(prompt, strict answer) texts in the chat format."""
    pairs = []
    for _ in range(BATCH):
        example = draw(words)
        prompt, answer = chat(words, Example(example.prompt, example.answer, (example.answer,)), name)
        pairs.append((prompt.text, answer.text.removesuffix("\n")))
    return pairs


def train(expert: Expert, tokenizer: PreTrainedTokenizerFast, spec: ExpertSpec, name: str, seed: int) -> None:
    words = Words(Random(seed), letter_pieces(tokenizer))
    optimizer = torch.optim.AdamW(expert.parameters(), lr=spec.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, spec.rate, total_steps=spec.steps, pct_start=0.05)
    begun, shown = time.monotonic(), 0.0
    for step in range(1, spec.steps + 1):
        ids, targets = collate(tokenizer, draw_batch(words, TASKS[name], name))
        with torch.autocast("cpu", torch.bfloat16):
            logits = expert.logits(ids)[:, :-1].float()
        loss = cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(expert.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        shown = shown * 0.9 + loss.item() * 0.1
        if step % 50 == 0:
            print(
                f"{name} step {step} loss {shown / (1 - 0.9**step):.4f} {time.monotonic() - begun:.0f} s",
                flush=True,
            )


def package_files(expert: Expert) -> dict[str, bytes]:
    """PEFT's files: matrices in fp16, vectors in fp32, nothing that names where it was made."""
    state = {
        key: (tensor.half() if min(tensor.shape[-2:] or (1,)) > 1 and tensor.ndim > 1 else tensor).detach().contiguous()
        for key, tensor in get_peft_model_state_dict(expert.model).items()
    }
    config = {key: sorted(value) if isinstance(value, set) else value for key, value in expert.config.to_dict().items()}
    config |= {
        "peft_type": str(PeftType(expert.config.peft_type).value),
        "base_model_name_or_path": "nano",
        "inference_mode": True,
    }
    config["task_type"] = "CAUSAL_LM"
    files = {
        CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True).encode() + b"\n",
        WEIGHTS_FILE: save_safetensors(state, {"format": "pt"}),
    }
    if expert.prompt is not None:
        files[SOFT_PROMPT_FILE] = save_safetensors({SOFT_PROMPT_TENSOR: expert.prompt.detach().contiguous()})
    return files


def kind_of(config: PeftConfig) -> AdapterKind:
    if isinstance(config, LoraConfig):
        return "dora" if config.use_dora else "lora"
    return "ia3" if isinstance(config, IA3Config) else "lokr"


def make_manifest(name: str, spec: ExpertSpec, expert: Expert, base: Path) -> Manifest:
    return Manifest(
        name=name,
        version="1.0.0",
        description=spec.description,
        base=base_fingerprint(base),
        adapter=AdapterSpec(
            kind_of(expert.config), getattr(expert.config, "r", None), tuple(sorted(expert.config.target_modules or ()))
        ),
        soft_prompt=SoftPromptSpec(spec.virtual_tokens) if spec.virtual_tokens else None,
        routing=spec.routing,
        decoding=spec.decoding,
        grammar=GrammarRef(library=spec.grammar),
        tags=spec.tags,
        license="Apache-2.0",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(EXPERTS))
    parser.add_argument("--base", type=Path, default=Path("models/nano"))
    parser.add_argument("--out", type=Path, default=Path("adapters_store/experts"))
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    spec = EXPERTS[args.name]
    if args.steps:
        spec = replace(spec, steps=args.steps)
    tokenizer = load_tokenizer(args.base)
    expert = Expert(load(args.base), spec.config(), spec.virtual_tokens)
    print(f"{args.name}: {sum(p.numel() for p in expert.parameters())} trained parameters", flush=True)
    train(expert, tokenizer, spec, args.name, args.seed)
    expert.model.eval()
    examples = unseen(tokenizer, TASKS[args.name], 200, args.seed + 1)
    matches = greedy_matches(expert.logits, tokenizer, examples, [example.answer for example in examples])
    print(f"{args.name}: exact match {sum(matches) / len(matches):.3f} on {len(matches)} unseen prompts")
    for example in [example for example, right in zip(examples, matches, strict=True) if not right][:5]:
        print(f"  missed: {example.prompt!r} -> {example.answer!r}")
    write_package(args.out / args.name, make_manifest(args.name, spec, expert, args.base), package_files(expert))


if __name__ == "__main__":
    main()
