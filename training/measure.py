"""Exact match by teacher forcing: greedy decoding gives an answer iff each of its tokens is the argmax in its place.

One forward pass per batch instead of one per token. `python -m training.measure` prints what the base knows of each
domain before any expert is trained: an adapter selects a form, it does not add a missing skill.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast, Qwen3ForCausalLM

from training.corpus import NO_THOUGHT, chat_prompt
from training.tasks import TASKS, Draw, Example
from training.tokenizer import letter_pieces, load_tokenizer
from training.words import Words

Logits = Callable[[Tensor], Tensor]
"""ids [batch, length] -> logits [batch, length, vocab]"""
IGNORED = -100


def collate(tokenizer: PreTrainedTokenizerFast, pairs: Sequence[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """(prompt, answer) texts -> ids and targets [batch, length], padded on the right; only answers are targets."""
    prompts = tokenizer([prompt for prompt, _ in pairs], add_special_tokens=False)["input_ids"]
    answers = tokenizer([answer for _, answer in pairs], add_special_tokens=False)["input_ids"]
    length = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
    ids = torch.full((len(pairs), length), tokenizer.pad_token_id)
    targets = torch.full((len(pairs), length), IGNORED)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        whole = torch.tensor([*prompt, *answer])
        ids[row, : len(whole)] = whole
        targets[row, len(prompt) : len(whole)] = whole[len(prompt) :]
    return ids, targets


@torch.inference_mode()
def greedy_matches(
    logits: Logits, tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], answers: Sequence[str]
) -> list[bool]:
    """Whether greedy decoding after each prompt gives each answer."""
    pairs = [
        (chat_prompt(example.prompt) + NO_THOUGHT, f"{answer}<|im_end|>")
        for example, answer in zip(examples, answers, strict=True)
    ]
    matches: list[bool] = []
    for begin in range(0, len(pairs), 32):
        ids, targets = collate(tokenizer, pairs[begin : begin + 32])
        chosen = logits(ids)[:, :-1].argmax(-1)
        right = (chosen == targets[:, 1:]) | (targets[:, 1:] == IGNORED)
        matches += right.all(1).tolist()
    return matches


def content_right(logits: Logits, tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> float:
    """Share of prompts whose greedy answer is one of the loose forms: what the base knows without an adapter."""
    found = [False] * len(examples)
    for form in range(max(len(example.loose) for example in examples)):
        answers = [example.loose[min(form, len(example.loose) - 1)] for example in examples]
        found = [a or b for a, b in zip(found, greedy_matches(logits, tokenizer, examples, answers), strict=True)]
    return sum(found) / len(found)


def unseen(
    tokenizer: PreTrainedTokenizerBase, draw: Draw, count: int, seed: int, rephrased: bool = False
) -> list[Example]:
    """Prompts of held-out words and combinations; `rephrased` ones are worded as no training text is."""
    words = Words(Random(seed), letter_pieces(tokenizer), held_out=True, rephrased=rephrased)
    return [draw(words) for _ in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("models/nano"))
    parser.add_argument("--count", type=int, default=300, help="unseen prompts per domain")
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.base)
    model = Qwen3ForCausalLM.from_pretrained(args.base, dtype=torch.float32).eval()

    def logits(ids: Tensor) -> Tensor:
        found: Tensor = model(ids, use_cache=False).logits
        return found

    for name, draw in TASKS.items():
        examples = unseen(tokenizer, draw, args.count, args.seed)
        content = content_right(logits, tokenizer, examples)
        strict = greedy_matches(logits, tokenizer, examples, [example.answer for example in examples])
        print(f"{name:14} content {content:6.1%}  strict form {sum(strict) / len(strict):6.1%}", flush=True)


if __name__ == "__main__":
    main()
