"""Packages: how one is published, or is not, and never by half."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from adapters_store import package
from adapters_store.errors import ManifestInvalid, PackageInvalid
from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    WEIGHTS_FILE,
    FileEntry,
    Manifest,
)
from adapters_store.package import (
    read_package,
    write_package,
)
from tests.unit.adapters_store.packages import (
    ia3_files,
    ia3_manifest,
    lora_files,
    lora_manifest,
)

LORA = lora_manifest()


def test_publishing_replaces_the_old_package_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_package(tmp_path / "tiny", ia3_manifest(), ia3_files())
    write_package(tmp_path / "tiny", LORA, lora_files())
    assert read_package(tmp_path / "tiny").manifest.kind_label == "lora"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


BrokenFiles = Callable[[], dict[str, bytes]]


@pytest.mark.parametrize(
    "files",
    [
        lambda: lora_files(float("nan")),
        lambda: lora_files() | {WEIGHTS_FILE: b""},
        lambda: lora_files() | {CONFIG_FILE: b"{}"},
    ],
)
def test_a_package_that_could_not_be_served_is_not_published(tmp_path: Path, files: BrokenFiles) -> None:
    write_package(tmp_path / "tiny", LORA, lora_files())
    before = read_package(tmp_path / "tiny").generation
    with pytest.raises(PackageInvalid):
        write_package(tmp_path / "tiny", LORA, files())
    assert read_package(tmp_path / "tiny").generation == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_file_name_that_leads_elsewhere_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match="is not one of"):
        write_package(tmp_path / "experts" / "tiny", LORA, lora_files() | {"../../stray": b""})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing_write", range(3))
def test_a_crash_in_the_middle_of_writing_leaves_the_old_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_write: int
) -> None:
    write_package(tmp_path / "tiny", LORA, lora_files(1))
    before = read_package(tmp_path / "tiny").generation
    writes: list[Path] = []

    def write_until_full(path: Path, data: bytes) -> None:
        if len(writes) == failing_write:
            path.write_bytes(data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        writes.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(package, "write_durably", write_until_full)
    with pytest.raises(OSError, match="No space left"):
        write_package(tmp_path / "tiny", LORA, lora_files(2))
    assert read_package(tmp_path / "tiny").generation == before
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_the_files_of_the_manifest_that_is_given_do_not_matter(tmp_path: Path) -> None:
    manifest: Manifest = replace(LORA, files=(FileEntry(GRAMMAR_FILE, 1, "0" * 64),))
    assert write_package(tmp_path / "tiny", manifest, lora_files()).files[0].name == CONFIG_FILE
