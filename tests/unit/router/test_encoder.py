"""The embedded encoder: features, vectors, and the same vectors from sentence-transformers."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.bag import MAX_WORDS, bag_of, words_of
from router.encoder import EMBEDDED, EmbeddedEncoder, load_encoder, write_encoder
from router.errors import EncoderInvalid

TEXTS = ["Translate to Portuguese: the red house", "3.5 km to m", "olá, como vai?", "CREATE TABLE t (a INT);", "\x00"]


@pytest.fixture(scope="module")
def encoder() -> EmbeddedEncoder:
    return EmbeddedEncoder.load(EMBEDDED)


def small(folder: Path) -> EmbeddedEncoder:
    table = np.random.default_rng(1).standard_normal((64, 8)).astype(np.float32)
    write_encoder(folder, table)
    return EmbeddedEncoder.load(folder)


@given(st.text())
def test_every_text_has_a_vector_of_length_one_or_none_at_all(text: str) -> None:
    encoder = EmbeddedEncoder(np.eye(64, 8, dtype=np.float32) + 0.1, "test")
    length = float(np.linalg.norm(encoder.encode([text])[0]))
    assert length == pytest.approx(1.0, abs=1e-5) or (length == 0 and not words_of(text.strip()))


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


def test_sentence_transformers_gives_the_same_vectors(encoder: EmbeddedEncoder) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(EMBEDDED), device="cpu", trust_remote_code=True)
    theirs = model.encode(TEXTS[:-1], show_progress_bar=False)
    assert np.allclose(theirs, encoder.encode(TEXTS[:-1]), atol=1e-5)
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
    (tmp_path / "config.json").write_text(json.dumps({"kind": "bert"}))
    with pytest.raises(EncoderInvalid, match="'bert'"):
        EmbeddedEncoder.load(tmp_path)
