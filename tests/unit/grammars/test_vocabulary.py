"""The file that llama.cpp reads, and which ids a grammar may ever allow."""

import ctypes
import gc
import json
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarClosed, VocabularyInvalid
from grammars.vocabulary import Vocabulary, vocabulary_for, write_vocab_gguf
from tests.unit.grammars.conftest import CORPUS, NUM_LOGITS, NativeCalls, fast_tokenizer
from tests.unit.grammars.walks import feed, shared, spell

ANYTHING = 'root ::= [^"]*'


def llama_tokens(vocabulary: Vocabulary, text: str) -> list[int]:
    raw = text.encode()
    found = (llama_cpp.llama_token * (len(raw) + 8))()
    count = llama_cpp.llama_tokenize(vocabulary.native.pointer, raw, len(raw), found, len(found), False, False)
    return list(found[:count])


@pytest.mark.parametrize("text", CORPUS)
def test_llama_cpp_splits_text_into_the_same_tokens_as_the_tokenizer(
    vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    assert llama_tokens(vocabulary, text) == tokenizer.encode(text, add_special_tokens=False)


def test_every_text_token_has_the_bytes_that_the_tokenizer_decodes(
    pieces: dict[int, bytes], tokenizer: PreTrainedTokenizerFast
) -> None:
    assert len(pieces) == 595
    for token_id, piece in pieces.items():
        assert piece.decode("utf-8", errors="replace") == tokenizer.decode([token_id])


def test_added_tokens_are_special_and_ids_without_a_token_unused(
    vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerFast
) -> None:
    kinds = {
        "<|im_start|>": llama_cpp.LLAMA_TOKEN_ATTR_CONTROL,
        "<|im_end|>": llama_cpp.LLAMA_TOKEN_ATTR_CONTROL,
        "<think>": llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED,
    }
    for text, kind in kinds.items():
        token_id = tokenizer.convert_tokens_to_ids(text)
        assert llama_cpp.llama_vocab_get_attr(vocabulary.native.pointer, token_id) & kind
    unused = llama_cpp.llama_vocab_get_attr(vocabulary.native.pointer, NUM_LOGITS - 1)
    assert unused == llama_cpp.LLAMA_TOKEN_ATTR_UNUSED


NEVER_TEXT = {0xC0, 0xC1, *range(0xF5, 0x100)}
"""The bytes that UTF-8 has no use for."""


def test_special_and_unused_ids_and_bytes_of_no_text_are_no_text(
    vocabulary: Vocabulary, pieces: dict[int, bytes]
) -> None:
    barred = {pieces[i] for i in np.flatnonzero(~vocabulary.is_text[:595]).tolist()}
    assert barred == {bytes([byte]) for byte in NEVER_TEXT}
    assert not vocabulary.is_text[595:].any()


def test_special_ids_named_by_the_caller_are_no_text_even_if_the_file_says_so(
    vocabulary: Vocabulary, tokenizer: PreTrainedTokenizerFast, eos_id: int, tmp_path: Path
) -> None:
    path = tmp_path / "v.gguf"
    write_vocab_gguf(tokenizer, NUM_LOGITS, path)
    narrower = Vocabulary.open(path, NUM_LOGITS, (eos_id,), frozenset({65, 66}))
    assert set(vocabulary.text_ids) - set(narrower.text_ids) == {65, 66}
    narrower.close()


def test_the_openings_are_the_single_bytes(vocabulary: Vocabulary, pieces: dict[int, bytes]) -> None:
    openings = sorted(pieces[i] for i in vocabulary.opening_ids)
    assert openings == [bytes([byte]) for byte in range(256) if byte not in NEVER_TEXT]


def test_logits_beyond_the_file_are_refused_and_tokens_beyond_the_logits_ignored(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    path = tmp_path / "v.gguf"
    write_vocab_gguf(tokenizer, NUM_LOGITS, path)
    for num_logits, num_text in ((NUM_LOGITS + 100, 594), (500, 499)):
        other = Vocabulary.open(path, num_logits, (499,), frozenset())
        matcher = GrammarCompiler(other).compile(ANYTHING).matcher()
        assert len(other.text_ids) == num_text - len(NEVER_TEXT)
        assert matcher.mask().shape == (num_logits,)
        assert not matcher.allows(num_logits - 1) or num_logits == 500
        assert not matcher.allows(num_logits)
        matcher.close()
        other.close()


def test_a_tokenizer_larger_than_the_logits_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(VocabularyInvalid, match="token id 599, the model 599 logits"):
        write_vocab_gguf(tokenizer, 599, tmp_path / "v.gguf")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_is_no_bpe_is_refused(tmp_path: Path) -> None:
    words = fast_tokenizer(Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(VocabularyInvalid, match="WordLevel"):
        write_vocab_gguf(words, 10, tmp_path / "v.gguf")


def test_a_tokenizer_without_an_end_of_sequence_is_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(VocabularyInvalid, match="no end-of-sequence"):
        write_vocab_gguf(endless, NUM_LOGITS, tmp_path / "v.gguf")


def test_ordinary_text_that_llama_cpp_takes_for_an_end_is_no_text(tmp_path: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate([*alphabet, "</", "</s", "</s>"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("<", "/"), ("</", "s"), ("</s", ">")]))
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    spelled = vocabulary_for(fast_tokenizer(backend), 260, (259,), tmp_path)
    matcher = GrammarCompiler(spelled).compile('root ::= ("</s>" "x")*').matcher()
    assert not matcher.allows(vocab["</s>"])
    assert feed(matcher, [vocab["</s"], vocab[">"], vocab["x"]])
    assert matcher.is_complete
    assert not matcher.allows(vocab["</s>"])
    matcher.close()
    spelled.close()


@pytest.mark.parametrize("eos_ids", [(), (NUM_LOGITS,), (-1,)])
def test_an_end_of_sequence_outside_the_logits_is_refused(tmp_path: Path, eos_ids: tuple[int, ...]) -> None:
    with pytest.raises(VocabularyInvalid, match="end-of-sequence"):
        Vocabulary.open(tmp_path / "v.gguf", NUM_LOGITS, eos_ids, frozenset())


@pytest.mark.parametrize("content", [None, b"", b"GGUF but not really"])
def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "v.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VocabularyInvalid, match=r"v\.gguf"):
        Vocabulary.open(path, NUM_LOGITS, (1,), frozenset())


def test_the_file_is_written_once_per_tokenizer_and_width(
    tokenizer: PreTrainedTokenizerFast, eos_id: int, tmp_path: Path
) -> None:
    cache = tmp_path / "deep" / "cache"
    vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), cache).close()
    (first,) = cache.iterdir()
    written = first.stat().st_mtime_ns
    vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), cache).close()
    assert [f.stat().st_mtime_ns for f in cache.iterdir()] == [written]
    vocabulary_for(tokenizer, NUM_LOGITS + 1, (eos_id,), cache).close()
    assert len(list(cache.iterdir())) == 2


def test_merges_of_older_tokenizer_files_are_written_too(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    saved = json.loads(tokenizer.backend_tokenizer.to_str())
    saved["model"]["merges"] = [" ".join(m) for m in saved["model"]["merges"]]
    older = fast_tokenizer(Tokenizer.from_str(json.dumps(saved)))
    write_vocab_gguf(older, NUM_LOGITS, tmp_path / "old.gguf")
    write_vocab_gguf(tokenizer, NUM_LOGITS, tmp_path / "new.gguf")
    assert (tmp_path / "old.gguf").read_bytes() == (tmp_path / "new.gguf").read_bytes()


def test_a_closed_vocabulary_is_refused_instead_of_crashing(
    tokenizer: PreTrainedTokenizerFast, eos_id: int, tmp_path: Path
) -> None:
    short_lived = vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), tmp_path)
    matcher = GrammarCompiler(short_lived).compile(ANYTHING).matcher()
    short_lived.close()
    short_lived.close()
    for use in (lambda: matcher.allows(65), matcher.mask, lambda: matcher.is_complete):
        with pytest.raises(GrammarClosed):
            use()
    with pytest.raises(GrammarClosed):
        GrammarCompiler(short_lived).compile(ANYTHING)
    matcher.close()


def test_a_vocabulary_frees_its_memory_exactly_once(
    tokenizer: PreTrainedTokenizerFast, eos_id: int, tmp_path: Path, native_calls: NativeCalls
) -> None:
    short_lived = vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), tmp_path)
    short_lived.close()
    short_lived.close()
    del short_lived
    gc.collect()
    assert len(native_calls["llama_model_free"]) == 1


def test_opening_prints_nothing(
    tokenizer: PreTrainedTokenizerFast, eos_id: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vocabulary_for(tokenizer, NUM_LOGITS, (eos_id,), tmp_path).close()
    assert capfd.readouterr() == ("", "")


def test_a_string_in_qwens_own_vocabulary_lets_no_special_or_unused_token_through() -> None:
    path = shared("qwen-vocab/qwen3-vocab-patched.gguf")
    qwen = Vocabulary.open(path, 151_936, (151_645,), frozenset(range(151_643, 151_669)))
    matcher = GrammarCompiler(qwen).compile(ANYTHING).matcher()
    pieces = qwen.native.text_pieces()
    assert feed(matcher, spell(pieces, "Olá, 日本 <think> <|im_end|>".encode()))
    mask = matcher.mask()
    assert mask[:151_643].sum() > 140_000
    assert np.flatnonzero(mask[151_643:]).tolist() == [2]  # <|im_end|>, for the text is complete
    matcher.close()
    qwen.close()


def test_stand_in_tokens_of_a_foreign_file_are_no_text() -> None:
    path = shared("qwen-vocab/ggml-vocab-qwen2.gguf")
    qwen = Vocabulary.open(path, 152_064, (151_645,), frozenset())  # the [PADn] tokens, and logits without any
    assert qwen.text_ids.max() == 151_642
    qwen.close()


def test_llama_cpps_debugger_hook_is_off() -> None:
    """Read from the C environment, which is the one that llama.cpp saw."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    assert getenv(b"GGML_NO_BACKTRACE") is not None
