"""Qwen3's tokenizer, made anew from the vocabulary file that lies beside the repository where there is one."""

from functools import cache
from pathlib import Path
from typing import cast

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT.parent / "shared" / "data" / "qwen-vocab" / "qwen3-vocab-patched.gguf"
TEMPLATE = ROOT / "models" / "nano" / "chat_template.jinja"
"""Of the embedded base; it ends in Qwen3's own form."""
NUM_LOGITS = 151_936
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Made once; slow."""
    fields = gguf.GGUFReader(FILE).fields
    texts = cast(list[str], fields["tokenizer.ggml.tokens"].contents())
    types = cast(list[int], fields["tokenizer.ggml.token_type"].contents())
    merges = [tuple(merge.split(" ")) for merge in cast(list[str], fields["tokenizer.ggml.merges"].contents())]
    normal = {text: number for number, text in enumerate(texts) if types[number] == gguf.TokenType.NORMAL}
    backend = Tokenizer(models.BPE(vocab=normal, merges=merges))  # type: ignore[arg-type]
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    kinds: dict[int, bool] = {gguf.TokenType.CONTROL: True, gguf.TokenType.USER_DEFINED: False}
    added = [(text, kinds[kind]) for text, kind in zip(texts, types, strict=True) if kind in kinds]
    backend.add_tokens([AddedToken(text, special=is_special, normalized=False) for text, is_special in added])
    found = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")
    found.chat_template = TEMPLATE.read_text()
    return found
