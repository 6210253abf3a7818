"""A vocabulary of the 256 bytes and an end, for looking at a grammar without a model.

A grammar is about text, so whether a sentence belongs to it depends on no tokenizer; only rules that name a special
token (`<think>`) need one. Loads in milliseconds. Called by the command line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import gguf

from grammars.vocabulary import Vocabulary

END_ID: Final = 256


@contextmanager
def byte_vocabulary() -> Iterator[Vocabulary]:
    """Token ids 0 to 255 are those bytes. Closed at the end, and its matchers with it."""
    with TemporaryDirectory(prefix="hotseat-bytes-") as folder:
        path = Path(folder) / "bytes.gguf"
        _write(path)
        vocabulary = Vocabulary.open(path, END_ID + 1, (END_ID,), frozenset())
    try:
        yield vocabulary
    finally:
        vocabulary.close()


def _write(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*_spellings(), "<end>"])
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["a b"])  # llama.cpp wants one; nothing here is ever tokenized
    writer.add_add_bos_token(False)
    writer.add_eos_token_id(END_ID)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def _spellings() -> list[str]:
    """Byte-level BPE writes a byte as a printable character: itself, or the next free one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]
