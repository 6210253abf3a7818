"""The embedded encoder: a table of vectors for words and pieces of words, trained to place prompts.

    python -m router.train_encoder ROWS.jsonl OUT_DIR [--clinc data_full.json] [--teacher DIR] [--english FILE]

Three things are asked of a vector at once: which experts the rows need (of the prompt and of its skeleton), which of
CLINC150's intents its train split says, and what a larger sentence encoder (a local directory) says of the same text.
Writes what sentence-transformers loads. Owns no inference; `router.encoder` reads the result.
"""

import importlib
import json
import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional as F

from router.encoder import write_encoder
from router.signals import read

VOCABULARY, DIM = 24_000, 96
BATCH, EPOCHS, RATE = 256, 5, 4e-3
TAUGHT_ONE_IN = 8
"""Of the rows, what the larger encoder is asked about: it takes a millisecond for each."""
DROPPED_FEATURES = 0.3
"""Share of a text's features that a step does not see: what is left has to do, as after a typo."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """One text a row; a target of -1 or of NaN is not known."""

    num_tokens: int
    bags: list[list[int]]
    experts: Tensor  # [rows, experts], NaN where unknown
    intents: Tensor  # [rows], -1 where unknown
    teacher: Tensor  # [rows, teacher's width], NaN where unknown


class Student(nn.Module):
    def __init__(self, num_tokens: int, num_experts: int, num_intents: int, teacher_dim: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(num_tokens, DIM, mode="mean")
        nn.init.normal_(self.table.weight, std=0.1)
        self.experts = nn.Linear(DIM, num_experts)
        self.intents = nn.Linear(DIM, num_intents)
        self.teacher = nn.Linear(DIM, teacher_dim)
        self.scale = nn.Parameter(torch.tensor(12.0))

    def forward(self, flat: Tensor, offsets: Tensor) -> Tensor:
        vectors: Tensor = F.normalize(self.table(flat, offsets), dim=1)
        return vectors

    def loss(self, vectors: Tensor, experts: Tensor, intents: Tensor, teacher: Tensor) -> Tensor:
        scaled = vectors * self.scale
        known = ~experts[:, 0].isnan()
        total = vectors.new_zeros(())
        if known.any():
            total = total + 3 * F.binary_cross_entropy_with_logits(self.experts(scaled[known]), experts[known])
        if (intents >= 0).any():
            total = total + 0.5 * F.cross_entropy(self.intents(scaled), intents, ignore_index=-1)
        taught = ~teacher[:, 0].isnan()
        if taught.any():
            told = self.teacher(scaled[taught])
            total = total + 3 * (1 - F.cosine_similarity(told, teacher[taught])).mean()
        return total


def train(corpus: Corpus, seed: int = 7, epochs: int = EPOCHS) -> Tensor:
    """The table, [num_tokens, DIM]."""
    torch.manual_seed(seed)
    num_intents = max(int(corpus.intents.max()) + 1, 1)
    student = Student(corpus.num_tokens, corpus.experts.shape[1], num_intents, corpus.teacher.shape[1])
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    steps = epochs * -(-len(corpus.bags) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(corpus.bags)).split(BATCH):
            vectors = student(*_flat([corpus.bags[row] for row in rows.tolist()]))
            loss = student.loss(vectors, corpus.experts[rows], corpus.intents[rows], corpus.teacher[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(rows)
        sys.stdout.write(f"epoch {epoch + 1}: {total / len(corpus.bags):.4f}\n")
    return student.table.weight.detach()


def _flat(bags: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """All features in a row and where each text begins, some features left out."""
    lengths = torch.tensor([len(bag) for bag in bags])
    flat = torch.tensor([bucket for bag in bags for bucket in bag])
    owner = torch.repeat_interleave(torch.arange(len(bags)), lengths)
    keep = torch.rand(len(flat)) >= DROPPED_FEATURES
    counts = torch.bincount(owner[keep], minlength=len(bags))
    return flat[keep], torch.cat((torch.zeros(1, dtype=torch.long), counts.cumsum(0)[:-1]))


def build_corpus(
    rows: list[dict[str, object]], clinc: Path | None, english: Sequence[str], teacher: Path | None
) -> tuple[Tokenizer, Corpus]:
    names = sorted({str(name) for row in rows for name in row["experts"]})  # type: ignore[attr-defined]
    texts: list[str] = []
    experts: list[list[float]] = []
    intents: list[int] = []
    for row in rows:
        target = [float(name in row["experts"]) for name in names]  # type: ignore[operator]
        for text in (str(row["text"]), read(str(row["text"])).skeleton):
            texts.append(text)
            experts.append(target)
            intents.append(-1)
    unknown = [float("nan")] * len(names)
    if clinc is not None:
        train_rows = json.loads(clinc.read_text())["train"]
        intent_ids = {intent: n for n, intent in enumerate(sorted({intent for _, intent in train_rows}))}
        texts += [text for text, _ in train_rows]
        experts += [unknown] * len(train_rows)
        intents += [intent_ids[intent] for _, intent in train_rows]
    texts += english
    experts += [unknown] * len(english)
    intents += [-1] * len(english)
    tokenizer = fit_tokenizer(texts)
    bags = [encoding.ids or [0] for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]
    targets = torch.full((len(texts), 1), float("nan"))
    if teacher is not None:
        # Skeletons are no English: of the rows, every other text is one. Many rows are the same prompt, mistyped.
        taught = [n for n in range(len(texts)) if n >= 2 * len(rows) or n % (2 * TAUGHT_ONE_IN) == 0]
        told = _teach([texts[n] for n in taught], teacher)
        targets = targets.expand(-1, told.shape[1]).clone()
        targets[taught] = told
    return tokenizer, Corpus(tokenizer.get_vocab_size(), bags, torch.tensor(experts), torch.tensor(intents), targets)


def fit_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Words and pieces of words (WordPiece), without case, every digit as 0."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\d"), "0")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, min_frequency=3, special_tokens=["[UNK]"], limit_alphabet=200, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _teach(texts: Sequence[str], teacher: Path) -> Tensor:
    library = importlib.import_module("sentence_transformers")
    model = library.SentenceTransformer(str(teacher), device="cpu")
    model.max_seq_length = 96
    return torch.from_numpy(model.encode(list(texts), batch_size=128, normalize_embeddings=True)).float()


def english_words(path: Path) -> list[str]:
    """Lines of a word list or of a WordPiece vocabulary that are words."""
    return [line for line in path.read_text().split("\n") if re.fullmatch(r"[a-z]{3,20}", line)]


def main() -> None:
    parser = ArgumentParser(description="Train the embedded encoder.")
    parser.add_argument("rows", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clinc", type=Path)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--english", type=Path)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    rows = [row for row in rows if row["split"] == "train"]
    english = english_words(options.english) if options.english else []
    tokenizer, corpus = build_corpus(rows, options.clinc, english, options.teacher)
    write_encoder(options.out, tokenizer, train(corpus).numpy())


if __name__ == "__main__":
    main()
