"""The grammar bench replays valid documents on any vocabulary, and says what it could not run."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from bench import grammar, grammar_streams
from bench.grammar_load import Document, ZipfLogits, documents, open_vocabulary, schema_document, tokens_of
from bench.grammar_peers import peers
from grammars.compiler import GrammarCompiler
from grammars.vocabulary import write_vocab_gguf

NUM_LOGITS = 260


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte, one more of two bytes, and an end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {piece: i for i, piece in enumerate([*alphabet, "SE"])}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[("S", "E")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>")


@pytest.fixture(scope="module")
def tiny(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vocabulary") / "tiny.gguf"
    write_vocab_gguf(tokenizer, NUM_LOGITS, path)
    return path


@pytest.mark.parametrize("document", [*documents(), schema_document(10)], ids=lambda document: document.name)
def test_a_document_is_a_sentence_of_its_grammar(tiny: Path, document: Document) -> None:
    vocabulary = open_vocabulary(tiny)
    matcher = GrammarCompiler(vocabulary).compile(document.gbnf).matcher()
    for token_id in tokens_of(vocabulary, document.text):
        matcher.accept(token_id)
    assert matcher.is_complete and matcher.must_stop
    vocabulary.close()


def test_a_schema_of_thirty_properties_has_as_many() -> None:
    assert len(json.loads(schema_document(30).text)) == 30


def test_the_next_token_has_its_share_and_the_others_follow_zipf() -> None:
    found = torch.softmax(ZipfLogits(NUM_LOGITS, 0.5).before(7), -1)[0]
    others = found[torch.arange(NUM_LOGITS) != 7].sort(descending=True).values
    assert float(found[7]) == pytest.approx(0.5, rel=1e-4)
    assert (others * torch.arange(1.0, NUM_LOGITS))[:5].std() < 0.5 * others[0]


def test_every_document_has_our_costs_and_those_of_each_peer(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar, "LATER", range(1, 2))
    monkeypatch.setattr(grammar, "HOT", range(2, 3))
    monkeypatch.setattr(grammar, "documents", lambda: (schema_document(6),))
    grammar.main([str(tiny), "--no-streams"])
    *lines, last = capsys.readouterr().out.splitlines()
    rows = json.loads(last)["rows"]
    ours = [row for row in rows if row["what"].startswith("ours")]
    assert len(ours) == 2 * 3 * 3 and all(row["p99"] >= row["p50"] for row in ours)
    full_mask = next(row for row in rows if row["what"].startswith("llama-cpp-python"))
    assert 0 < full_mask["p50"] <= full_mask["p99"]
    assert all(row["p99"] > 0 or row["note"].startswith("not run: ") for row in rows)
    assert (
        sum(line.startswith("| schema of 6 |") for line in lines) == len(rows) - 5
    )  # first uses, and one of 10 compiled


def test_a_peer_that_is_not_installed_is_named(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "llama_cpp" else None)
    vocabulary = open_vocabulary(tiny)
    installed, missing = peers(vocabulary)
    assert len(installed) == 1 and missing == ["xgrammar", "llguidance"]
    vocabulary.close()


def test_streams_are_compared_in_pairs() -> None:
    runs = {"greedy, free": [100.0, 200.0, 300.0], "greedy, grammar": [95.0, 190.0, 300.0]}
    runs |= {name.replace("greedy", "top-p 0.9"): rates for name, rates in runs.items()}
    assert "greedy: 0.950 of the free streams' rate (median of pairs 0.950)" in grammar_streams.describe(runs)
    assert grammar_streams.describe({}) == ""


def test_a_model_folder_is_measured_by_its_tokenizer_and_config(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 300}')
    vocabulary = open_vocabulary(tmp_path)
    assert (vocabulary.num_logits, len(vocabulary.text_ids)) == (300, 244)  # 13 bytes are in no UTF-8
    vocabulary.close()
