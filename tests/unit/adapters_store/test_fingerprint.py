"""When two directories hold the same base model."""

import json
import re
from pathlib import Path

import pytest

from adapters_store.errors import BaseModelInvalid
from adapters_store.fingerprint import base_fingerprint

CONFIG = {"model_type": "qwen3", "hidden_size": 8, "rope_theta": 10000.0, "tie_word_embeddings": True}


def base(directory: Path, config: dict[str, object] | None = None, weights: bytes = b"weights") -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    (directory / "model.safetensors").write_bytes(weights)
    return directory


def test_it_is_a_sha256_that_does_not_depend_on_the_place(tmp_path: Path) -> None:
    first = base_fingerprint(base(tmp_path / "a"))
    assert re.fullmatch("sha256:[0-9a-f]{64}", first)
    assert first == base_fingerprint(base(tmp_path / "b"))


@pytest.mark.parametrize(
    "unimportant",
    [{"_name_or_path": "x"}, {"transformers_version": "9"}, {"dtype": "float32"}, {"sliding_window": None}],
)
def test_paths_versions_and_dtypes_do_not_matter(tmp_path: Path, unimportant: dict[str, object]) -> None:
    assert base_fingerprint(base(tmp_path / "a")) == base_fingerprint(base(tmp_path / "b", CONFIG | unimportant))


def test_the_order_of_keys_does_not_matter(tmp_path: Path) -> None:
    backwards = dict(reversed(CONFIG.items()))
    assert base_fingerprint(base(tmp_path / "a")) == base_fingerprint(base(tmp_path / "b", backwards))


@pytest.mark.parametrize("change", [{"rope_theta": 1e6}, {"hidden_size": 9}, {"rope_scaling": {"factor": 2}}])
def test_another_architecture_is_another_base(tmp_path: Path, change: dict[str, object]) -> None:
    assert base_fingerprint(base(tmp_path / "a")) != base_fingerprint(base(tmp_path / "b", CONFIG | change))


def test_other_weights_are_another_base(tmp_path: Path) -> None:
    assert base_fingerprint(base(tmp_path / "a")) != base_fingerprint(base(tmp_path / "b", weights=b"weightz"))


def test_every_shard_counts(tmp_path: Path) -> None:
    one, two = base(tmp_path / "a"), base(tmp_path / "b")
    (two / "model-2.safetensors").write_bytes(b"")
    assert base_fingerprint(one) != base_fingerprint(two)


@pytest.mark.parametrize(
    ("config", "fault"),
    [(None, "config.json: .*No such file"), ("{", "config.json: "), ("[]", "config.json is not an object")],
)
def test_a_directory_without_a_config_is_no_base(tmp_path: Path, config: str | None, fault: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(BaseModelInvalid, match=fault):
        base_fingerprint(tmp_path)


def test_a_directory_without_weights_is_no_base(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BaseModelInvalid, match=r"no \*\.safetensors"):
        base_fingerprint(tmp_path)
