"""The embedded encoder: features, vectors, and the same vectors from sentence-transformers."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from router.bag import MAX_CHARS, MAX_WORDS, bag_of, words_of
from router.encoder import EMBEDDED, EmbeddedEncoder, load_encoder, write_encoder
from router.errors import EncoderInvalid

TEXTS = ["Translate to Portuguese: the red house", "3.5 km to m", "olá, como vai?", "CREATE TABLE t (a INT);", "\x00"]


EMBEDDED_ENCODER = EmbeddedEncoder.load(EMBEDDED)


@pytest.fixture
def encoder() -> EmbeddedEncoder:
    return EMBEDDED_ENCODER


def tokenizer(*words: str) -> Tokenizer:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(("[UNK]", *words))}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made


def small(folder: Path) -> EmbeddedEncoder:
    write_encoder(folder, tokenizer("red", "house"), np.eye(3, 8, dtype=np.float32))
    return EmbeddedEncoder.load(folder)


def test_a_vector_is_the_mean_of_its_tokens_of_length_one(tmp_path: Path) -> None:
    found = small(tmp_path).encode(["red", "house red", "red red red house", ""])
    half = np.sqrt(0.5)
    expected = [[0, 1, 0], [0, half, half], [0, 3 / np.sqrt(10), 1 / np.sqrt(10)], [0, 0, 0]]
    assert np.allclose(found[:, :3], expected) and not found[:, 3:].any()


@given(st.text())
def test_every_text_has_a_vector_of_length_one_or_none_at_all(text: str) -> None:
    length = float(np.linalg.norm(EMBEDDED_ENCODER.encode([text])[0]))
    assert length == pytest.approx(1.0, abs=1e-5) or (length == 0 and not any(map(str.isalnum, text)))


def test_a_typo_moves_a_text_less_than_another_subject_does(encoder: EmbeddedEncoder) -> None:
    right, typo, other = encoder.encode(
        ["translate this to portuguese", "transalte this to portugese", "how many customers live in Porto"]
    )
    assert right @ typo > 0.6 > right @ other


def test_case_and_width_do_not_count(encoder: EmbeddedEncoder) -> None:
    assert np.array_equal(*encoder.encode(["Fix this JSON", "\uff26\uff29\uff38 THIS json"]))


def test_a_long_text_costs_no_more_than_its_two_ends() -> None:
    assert len(words_of("word " * 100_000)) <= MAX_WORDS
    assert len(bag_of("x" * 1_000_000, 64)) < 200


def test_the_encoder_reads_the_two_ends_of_a_long_text(encoder: EmbeddedEncoder) -> None:
    begin, end = "red " * (MAX_CHARS // 4), " house" * (MAX_CHARS // 6 + 1)
    assert np.array_equal(*encoder.encode([begin + "water " * 100_000 + end, begin + "\n" + end[-MAX_CHARS:]]))


def test_sentence_transformers_gives_the_same_vectors(encoder: EmbeddedEncoder) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(EMBEDDED), device="cpu")
    theirs = model.encode(TEXTS[:-1], show_progress_bar=False)
    assert np.allclose(theirs, encoder.encode(TEXTS[:-1]), atol=1e-3)  # in half floats
    assert model.get_embedding_dimension() == encoder.dim


def test_it_is_a_few_megabytes_and_loads_by_its_directory() -> None:
    assert (EMBEDDED / "model.safetensors").stat().st_size < 8_000_000
    assert load_encoder(str(EMBEDDED)).fingerprint == load_encoder("embedded").fingerprint


def test_another_table_has_another_fingerprint(tmp_path: Path, encoder: EmbeddedEncoder) -> None:
    assert small(tmp_path).fingerprint != encoder.fingerprint


def test_a_directory_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderInvalid, match="holds no embedded encoder"):
        EmbeddedEncoder.load(tmp_path)
    small(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Transformer"}]))
    with pytest.raises(EncoderInvalid, match="'Transformer'"):
        EmbeddedEncoder.load(tmp_path)


def test_a_damaged_directory_is_refused_as_what_it_is_and_handed_to_no_other_library(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(EncoderInvalid, match="holds no embedded encoder"):
        load_encoder(str(tmp_path))


def test_a_table_with_too_few_rows_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, tokenizer("red", "house"), np.eye(2, 8, dtype=np.float32))
    with pytest.raises(EncoderInvalid, match="for 3 tokens"):
        EmbeddedEncoder.load(tmp_path)
