"""Trains `models/nano`, the embedded base: `python -m training.nano [--minutes 60]`.

A Qwen3 model of about 6 million parameters, trained from random weights on text that this package generates. No
example is seen twice. Matrices are updated by Muon (Jordan et al. 2024, scaled to AdamW's RMS), the rest by AdamW.
"""

import argparse
import copy
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from training.corpus import Document, documents
from training.tokenizer import letter_pieces, load_tokenizer, train_tokenizer
from training.words import Words

VOCAB_SIZE = 2304
CONTEXT = 1024
SEED = 20261121


def make_config(tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """Shallow and wide: what probes found fastest to train on a CPU. Logits are padded to a multiple of 64."""
    return Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=320,
        intermediate_size=896,
        num_hidden_layers=5,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def sample_texts(count: int) -> Iterator[str]:
    """Text to learn merges from, before there is a vocabulary to draw pieces from."""
    words = Words(Random(SEED), pool_share=0.6)
    for document in islice(documents(words), count):
        yield "".join(segment.text for segment in document)


def encode(tokenizer: PreTrainedTokenizerFast, batch: list[Document]) -> Iterator[tuple[list[int], list[float]]]:
    """Ids and loss weights of each document."""
    texts = [segment.text for document in batch for segment in document]
    encoded = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    for document in batch:
        ids, weights = [], []
        for segment in document:
            piece = next(encoded)
            ids += piece
            weights += [segment.weight] * len(piece)
        yield ids, weights


class Packer:
    """Fills rows of `length` tokens with whole documents; a document that does not fit begins the next row."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rows: int, length: int) -> None:
        self.tokenizer, self.rows, self.length = tokenizer, rows, length
        self.pieces = letter_pieces(tokenizer)
        self.rng = Random(SEED + 1)
        self.left: list[tuple[list[int], list[float]]] = []

    def batch(self, progress: float) -> tuple[Tensor, Tensor, Tensor]:
        """ids, loss weights and positions, each [rows, length]."""
        ids = torch.full((self.rows, self.length), self.tokenizer.pad_token_id)
        weights = torch.zeros(self.rows, self.length)
        for row in range(self.rows):
            filled = 0
            while True:
                document, weight = self._next(progress)
                if filled + len(document) > self.length:
                    if len(document) <= self.length:
                        self.left.append((document, weight))
                    break
                ids[row, filled : filled + len(document)] = torch.tensor(document)
                weights[row, filled : filled + len(document)] = torch.tensor(weight)
                filled += len(document)
        offsets = torch.tensor([[self.rng.randrange(0, CONTEXT - self.length + 1)] for _ in range(self.rows)])
        offsets[: self.rows // 2] = 0
        return ids, weights, torch.arange(self.length) + offsets

    def _next(self, progress: float) -> tuple[list[int], list[float]]:
        if not self.left:
            words = Words(Random(self.rng.getrandbits(64)), self.pieces)
            self.left = list(encode(self.tokenizer, list(islice(documents(words, progress), 256))))
        return self.left.pop()


def weighted_loss(model: torch.nn.Module, ids: Tensor, weights: Tensor, positions: Tensor) -> Tensor:
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    weight = weights[:, 1:].flatten()
    return (losses * weight).sum() / weight.sum()


def make_optimizers(model: Qwen3ForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def rate_at(progress: float, peak: float) -> float:
    """Short warm-up, flat, then linear to a thirtieth over the last two thirds."""
    return peak * min(progress / 0.01 + 0.05, 1.0, max(1.5 * (1.0 - progress), 1 / 30))


def train(
    model: Qwen3ForCausalLM, packer: Packer, minutes: float, peak: float, out: Path, is_resumed: bool = False
) -> None:
    """A resumed training draws the mix of documents that the first one ended with."""
    optimizers = make_optimizers(model, peak)
    step_fn = torch.compile(weighted_loss, dynamic=False)
    begun, step, tokens, shown = time.monotonic(), 0, 0, 0.0
    while (progress := (time.monotonic() - begun) / (minutes * 60)) < 1.0:
        ids, weights, positions = packer.batch(1.0 if is_resumed else progress)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate_at(progress, peak)
        with torch.autocast("cpu", torch.bfloat16):
            loss = step_fn(model, ids, weights, positions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, tokens, shown = step + 1, tokens + ids.numel(), shown * 0.95 + loss.item() * 0.05
        if step % 50 == 0:
            rate = tokens / (time.monotonic() - begun)
            mean = shown / (1 - 0.95**step)
            print(
                f"step {step} progress {progress:.3f} tokens {tokens / 1e6:.2f}M loss {mean:.4f} {rate:.0f} tok/s",
                flush=True,
            )
        if step % 500 == 0:
            save(model, packer.tokenizer, out)
    save(model, packer.tokenizer, out)


def load(directory: Path) -> Qwen3ForCausalLM:
    """In fp32; on short rows plain attention trains faster on a CPU than the fused one."""
    model: Qwen3ForCausalLM = Qwen3ForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    return model


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights in bf16, half of what training keeps."""
    half: Qwen3ForCausalLM = copy.deepcopy(model)
    half.bfloat16()
    half.save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models/nano"))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--resume", action="store_true", help="continue from the weights in --out")
    args = parser.parse_args()
    torch.manual_seed(SEED)
    if args.resume:
        tokenizer = load_tokenizer(args.out)
        model = load(args.out)
    else:
        tokenizer = train_tokenizer(sample_texts(60_000), VOCAB_SIZE, CONTEXT)
        config = make_config(tokenizer)
        config._attn_implementation = "eager"
        model = Qwen3ForCausalLM(config)
    print(f"{model.num_parameters() / 1e6:.2f}M parameters, {len(tokenizer)} tokens", flush=True)
    packer = Packer(tokenizer, args.rows, args.length)
    if args.resume:
        packer.rng.seed(time.time_ns())
    train(model, packer, args.minutes, args.rate, args.out, args.resume)


if __name__ == "__main__":
    main()
