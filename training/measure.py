"""Exact match by teacher forcing: greedy decoding gives an answer iff each of its tokens is the argmax in its place.

One forward pass per batch instead of one per token; the served figure comes from `bench.quality`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training.corpus import NO_THOUGHT, chat_prompt
from training.tasks import Example

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
