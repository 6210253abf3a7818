"""What the grammar bench replays: valid documents, their grammars, and logits in which the next token has its share."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor
from transformers import AutoTokenizer

from grammars import library
from grammars.native import NativeVocab
from grammars.vocabulary import Vocabulary, vocabulary_for

_JSON: Final = (
    '{"id": 4711, "name": "Maria Santos", "email": "maria.santos@example.org", "active": true, "score": -12.5e3,'
    ' "tags": ["new", "São Paulo", "30 % off", null], "address": {"street": "Rua das Flores 12", "city": "Porto",'
    ' "zip": "4000-120", "geo": {"lat": 41.1496, "lon": -8.6109}}, "orders": [{"sku": "A-113", "quantity": 2},'
    ' {"sku": "B-7", "quantity": 1, "note": "leave at the \\"back\\" door"}]}'
)
_SQL: Final = (
    "SELECT city, AVG(age) FROM singers WHERE age > 30 AND name LIKE 'Ma%' GROUP BY city ORDER BY city DESC LIMIT 3;"
)
_KINDS: Final = (
    ("string", '"Porto and Lisbon"'),
    ("integer", "4711"),
    ("number", "41.25"),
    ("boolean", "true"),
    ("level", '"medium"'),
    ("strings", '["red", "dark green"]'),
)
_KIND_RULES: Final = r"""
string ::= "\"" char{0,64} "\""
char ::= [^"\\\x00-\x1f\x7f] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4})
integer ::= "-"? ("0" | [1-9] [0-9]{0,15})
number ::= integer ("." [0-9]{1,15})? ([eE] [-+]? [0-9]{1,3})?
boolean ::= "true" | "false"
level ::= "\"" ("low" | "medium" | "high") "\""
strings ::= "[" (string (", " string){0,9})? "]"
"""


@dataclass(frozen=True, slots=True)
class Document:
    name: str
    gbnf: str
    text: str


def schema_document(num_properties: int) -> Document:
    """An object whose properties are all required, in order, and of six kinds in turn."""
    kinds = [_KINDS[number % len(_KINDS)] for number in range(num_properties)]
    names = [f"property_{number}_{kind}" for number, (kind, _) in enumerate(kinds)]
    members = [rf'"\"{name}\": " {kind}' for name, (kind, _) in zip(names, kinds, strict=True)]
    root = 'root ::= "{" ' + ' ", " '.join(members) + ' "}"'
    text = ", ".join(f'"{name}": {value}' for name, (_, value) in zip(names, kinds, strict=True))
    return Document(f"schema of {num_properties}", root + _KIND_RULES, "{" + text + "}")


def documents() -> tuple[Document, ...]:
    return (
        Document("JSON", library.text("json"), _JSON),
        Document("SQL", library.text("sql"), _SQL),
        schema_document(30),
    )


def open_vocabulary(source: Path) -> Vocabulary:
    """A GGUF file, or a checkpoint's folder."""
    if source.suffix == ".gguf":
        native = NativeVocab(source)
        return Vocabulary(native, native.num_tokens, (native.end_id,), frozenset())
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        return vocabulary_for(tokenizer, config["vocab_size"], (tokenizer.eos_token_id,), Path(folder))


def tokens_of(vocabulary: Vocabulary, text: str) -> Iterator[int]:
    """The longest token at every place, which is near enough to the tokenizer's own choice."""
    ids = {piece: token_id for token_id, piece in vocabulary.native.text_pieces().items()}
    longest = max(map(len, ids))
    rest = text.encode()
    while rest:
        piece = next(rest[:end] for end in range(min(longest, len(rest)), 0, -1) if rest[:end] in ids)
        yield ids[piece]
        rest = rest[len(piece) :]


class ZipfLogits:
    """Logits [1, vocab]: the next token has probability `share`, all others a Zipf tail in an order of chance."""

    def __init__(self, num_logits: int, share: float, seed: int = 0) -> None:
        order = torch.randperm(num_logits, generator=torch.Generator().manual_seed(seed))
        tail = torch.empty(num_logits)
        tail[order] = 1 / torch.arange(1.0, num_logits + 1)
        self._tail = tail
        self._share = share

    def before(self, token: int) -> Tensor:
        others = self._tail.sum() - self._tail[token]
        logits = (self._tail * ((1 - self._share) / others)).log_()
        logits[token] = torch.tensor(self._share).log()
        return logits[None]
