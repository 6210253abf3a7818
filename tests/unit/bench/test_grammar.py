"""The grammar bench measures every library grammar on any vocabulary."""

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bench import grammar
from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.vocabulary import write_vocab_gguf

NUM_LOGITS = 260
GO_ON = {"number", "sentence", "typescript"}  # after the bench's sentence, more may follow


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, one more of two bytes, and an end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate([*alphabet, "SE"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("S", "E")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")


def test_there_is_a_sentence_for_every_library_grammar(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    assert sorted(grammar.SENTENCES) == list(library.names())
    write_vocab_gguf(tokenizer, NUM_LOGITS, tmp_path / "v.gguf")
    vocabulary = grammar.open_vocabulary(tmp_path / "v.gguf")
    for name, sentence in grammar.SENTENCES.items():
        matcher = GrammarCompiler(vocabulary).compile(library.text(name)).matcher()
        for token_id in grammar.tokens_of(vocabulary, sentence):
            matcher.accept(token_id)
        assert matcher.is_complete and matcher.must_stop == (name not in GO_ON)
    vocabulary.close()


def test_the_table_has_a_row_per_grammar_with_five_figures(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_vocab_gguf(tokenizer, NUM_LOGITS, tmp_path / "tiny.gguf")
    grammar.main([str(tmp_path / "tiny.gguf")])
    title, _, _, *rows = capsys.readouterr().out.splitlines()
    assert title == "tiny.gguf: 260 logits, 257 text tokens"
    assert [row.split()[0] for row in rows] == list(library.names())
    assert all(len(row.replace(" (", "(").split()) == 6 for row in rows)


def test_a_model_folder_is_measured_by_its_tokenizer_and_config(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 300}')
    vocabulary = grammar.open_vocabulary(tmp_path)
    assert (vocabulary.num_logits, len(vocabulary.text_ids)) == (300, 257)
    vocabulary.close()
