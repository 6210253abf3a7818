"""Every guard refuses under a code of its own, and says what and by how much."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import save

from adapters_store.errors import FaultCode, PackageInvalid
from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterSpec,
    GrammarRef,
)
from adapters_store.package import MANIFEST_FILE, read_package
from adapters_store.policy import LENIENT, Policy
from tests.unit.adapters_store.packages import (
    HIDDEN,
    PREFIX,
    ia3_files,
    ia3_manifest,
    lora_config,
    lora_files,
    lora_manifest,
    lora_tensors,
    write_unchecked,
)

LORA = lora_manifest()
Break = Callable[[Path], object]
A, B = f"{PREFIX}.lora_A.weight", f"{PREFIX}.lora_B.weight"


def with_member(key: str, value: object) -> Break:
    def change(tiny: Path) -> None:
        members = json.loads((tiny / MANIFEST_FILE).read_text()) | {key: value}
        (tiny / MANIFEST_FILE).write_text(json.dumps(members))

    return change


def oversized(tiny: Path) -> None:
    (tiny / MANIFEST_FILE).write_bytes(b" " * (1 << 20) + b"{}")


def unreadable(tiny: Path) -> None:
    """Root may read everything, so the file is made impossible to open instead."""
    (tiny / MANIFEST_FILE).unlink()
    (tiny / MANIFEST_FILE).mkdir()


DAMAGE: list[tuple[FaultCode, Break, str]] = [
    ("file_special", lambda tiny: os.mkfifo(tiny / "pipe"), "pipe is a device or pipe"),
    ("file_special", unreadable, "manifest.json is a folder"),
    ("file_special", lambda tiny: (tiny / "x").symlink_to("/etc/passwd"), "x is a link"),
    ("file_unlisted", lambda tiny: (tiny / "run.py").write_text(""), "run.py is not listed"),
    ("file_missing", lambda tiny: (tiny / CONFIG_FILE).unlink(), "adapter_config.json is listed but missing"),
    ("file_size", lambda tiny: (tiny / CONFIG_FILE).write_text("{}"), "adapter_config.json has 2 bytes"),
    ("file_digest", lambda tiny: (tiny / CONFIG_FILE).write_bytes(lora_config().swapcase()), "has the sha256"),
    ("file_too_large", oversized, "manifest.json has 1048578 bytes, not 1048576 at most"),
    ("manifest_missing", lambda tiny: (tiny / MANIFEST_FILE).unlink(), "there is no manifest.json"),
    ("manifest_invalid", with_member("license", 3), "$.license"),
    ("manifest_version", with_member("schema_version", 9), "version 9 is unknown"),
    ("name_mismatch", with_member("name", "other"), "its directory is called 'tiny'"),
]


@pytest.mark.parametrize(("code", "damage", "words"), DAMAGE)
def test_a_damaged_directory_is_refused_under_its_code(
    tmp_path: Path, code: FaultCode, damage: Break, words: str
) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    damage(tiny)
    with pytest.raises(PackageInvalid) as refusal:
        read_package(tiny)
    assert refusal.value.code == code
    assert words in refusal.value.fault


def tensors(**changes: torch.Tensor) -> bytes:
    names = {"a": A, "b": B}
    return save(lora_tensors() | {names.get(key, key): value for key, value in changes.items()})


CONTENTS: list[tuple[FaultCode, dict[str, bytes], str]] = [
    ("config_invalid", {CONFIG_FILE: b"[]"}, "is not an object"),
    ("config_invalid", {CONFIG_FILE: b"{"}, "is not JSON"),
    ("config_invalid", {CONFIG_FILE: lora_config()[:-1] + b', "alpha_pattern": {"q": 1, "q": 2}}'}, "occurs twice"),
    ("config_invalid", {CONFIG_FILE: lora_config()[:-1] + b', "x": "\\ud800"}'}, "surrogates not allowed"),
    ("config_invalid", {CONFIG_FILE: lora_config()[:-1] + b', "x": 1e999}'}, "beyond all floats"),
    ("kind_mismatch", {CONFIG_FILE: lora_config(use_dora=True)}, "has use_dora True"),
    ("rank_mismatch", {CONFIG_FILE: lora_config(r=8)}, "has rank 8, the manifest 2"),
    ("rank_mismatch", {WEIGHTS_FILE: tensors(a=torch.ones(3, HIDDEN), b=torch.ones(HIDDEN, 3))}, "has rank 3"),
    ("safetensors_invalid", {WEIGHTS_FILE: b"\x80\x04."}, "is not a readable safetensors file"),
    ("tensor_dtype", {WEIGHTS_FILE: tensors(a=torch.ones(2, HIDDEN, dtype=torch.int8))}, "is torch.int8"),
    ("tensor_missing", {WEIGHTS_FILE: save({})}, "holds no tensor"),
    ("tensor_missing", {WEIGHTS_FILE: save({A: torch.ones(2, HIDDEN)})}, "has no lora_B.weight"),
    ("tensor_not_finite", {WEIGHTS_FILE: tensors(b=torch.full((HIDDEN, 2), torch.nan))}, "is not finite"),
    ("tensor_shape", {WEIGHTS_FILE: tensors(b=torch.ones(HIDDEN, 3))}, "has A of rank 2 and B of rank 3"),
    ("tensor_shape", {WEIGHTS_FILE: tensors(b=torch.ones(HIDDEN))}, "has the shape [8], not that of a matrix"),
]


@pytest.mark.parametrize(("code", "changes", "words"), CONTENTS)
def test_content_that_cannot_be_served_is_refused_under_its_code(
    tmp_path: Path, code: FaultCode, changes: dict[str, bytes], words: str
) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files() | changes)
    with pytest.raises(PackageInvalid) as refusal:
        read_package(tiny)
    assert refusal.value.code == code
    assert words in refusal.value.fault


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("soft_prompt_invalid", {SOFT_PROMPT_FILE: save({"rows": torch.ones(3, HIDDEN)})}),
        ("tensor_shape", {WEIGHTS_FILE: save({f"{PREFIX}.ia3_l": torch.ones(2, HIDDEN)})}),
    ],
)
def test_an_ia3_that_cannot_be_served_is_refused_under_its_code(
    tmp_path: Path, code: FaultCode, changes: dict[str, bytes]
) -> None:
    tiny = write_unchecked(tmp_path / "tiny", ia3_manifest(), ia3_files() | changes)
    with pytest.raises(PackageInvalid) as refusal:
        read_package(tiny)
    assert refusal.value.code == code


def test_a_grammar_that_is_no_text_is_refused_under_its_code(tmp_path: Path) -> None:
    manifest = replace(LORA, grammar=GrammarRef(file=GRAMMAR_FILE))
    tiny = write_unchecked(tmp_path / "tiny", manifest, lora_files() | {GRAMMAR_FILE: b"\xff"})
    with pytest.raises(PackageInvalid) as refusal:
        read_package(tiny)
    assert refusal.value.code == "grammar_invalid"


POLICIES: list[tuple[FaultCode, Policy, str]] = [
    ("base_mismatch", Policy(base="sha256:" + "cd" * 32), "not for sha256:cdcd"),
    ("package_too_large", Policy(max_package_bytes=100), "the limit is 100"),
    ("rank_too_large", Policy(max_rank=1), "has rank 2, the limit is 1"),
]


@pytest.mark.parametrize(("code", "policy", "words"), POLICIES)
def test_a_whole_package_that_the_policy_does_not_take_is_refused_under_its_code(
    tmp_path: Path, code: FaultCode, policy: Policy, words: str
) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    read_package(tiny, LENIENT)
    with pytest.raises(PackageInvalid) as refusal:
        read_package(tiny, policy)
    assert refusal.value.code == code
    assert words in refusal.value.fault


def test_uneven_ranks_are_measured_one_by_one(tmp_path: Path) -> None:
    files = lora_files() | {
        CONFIG_FILE: lora_config(rank_pattern={"q_proj": 3}),
        WEIGHTS_FILE: tensors(a=torch.ones(3, HIDDEN), b=torch.ones(HIDDEN, 3)),
    }
    tiny = write_unchecked(tmp_path / "tiny", LORA, files)
    read_package(tiny, Policy(max_rank=3))
    with pytest.raises(PackageInvalid, match="has rank 3, the limit is 2"):
        read_package(tiny, Policy(max_rank=2))


def test_the_rank_of_an_ia3_is_no_limit(tmp_path: Path) -> None:
    assert AdapterSpec("ia3", None, ("k_proj",)) != ia3_manifest().adapter
    tiny = write_unchecked(tmp_path / "tiny", ia3_manifest(), ia3_files())
    assert read_package(tiny, Policy(max_rank=1)).manifest.adapter.rank is None


def test_a_trusted_key_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 bytes, an Ed25519 public key has 32"):
        Policy(trusted_keys=frozenset({b"abc"}))


def test_codes_are_words_of_one_alphabet() -> None:
    assert all(code.replace("_", "").isalpha() and code.islower() for code in get_args(FaultCode))
