"""The embedded encoder as a module of sentence-transformers, which finds it by the name in `modules.json`.

For use with that library only: the server reads the same files with `encoder.EmbeddedEncoder`. Needs torch.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from router.bag import bag_of


class HashedBag(nn.Module):
    """Mean of the vectors of a text's features, of length one."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag.from_pretrained(table.float(), freeze=False, mode="mean")

    def preprocess(self, inputs: list[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:  # noqa: ARG002
        bags = [bag_of(f"{prompt or ''}{text}", self.table.num_embeddings) for text in inputs]
        offsets = torch.tensor([0, *(len(bag) for bag in bags)])[:-1].cumsum(0)
        return {"input_ids": torch.tensor([n for bag in bags for n in bag], dtype=torch.long), "offsets": offsets}

    def tokenize(self, texts: list[str], **kwargs: Any) -> dict[str, Tensor]:
        return self.preprocess(texts, **kwargs)

    def forward(self, features: dict[str, Tensor], **kwargs: Any) -> dict[str, Tensor]:  # noqa: ARG002
        vectors = self.table(features["input_ids"], features["offsets"])
        return {**features, "sentence_embedding": F.normalize(vectors, dim=1)}

    def get_embedding_dimension(self) -> int:
        return self.table.embedding_dim

    def get_sentence_embedding_dimension(self) -> int:
        return self.table.embedding_dim

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        folder = Path(output_path)
        save_file({"table": self.table.weight.detach().half().contiguous()}, folder / "model.safetensors")
        num_buckets, dim = self.table.weight.shape
        config = {"kind": "hashed-bag", "num_buckets": num_buckets, "dim": dim}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, model_name_or_path: str, **kwargs: Any) -> "HashedBag":  # noqa: ARG003
        return cls(load_file(Path(model_name_or_path) / "model.safetensors")["table"])
