"""Packages that were verified once: what stays in memory of them, and what reading their weights again takes."""

from pathlib import Path

import pytest
import torch

from adapters_store.errors import PackageInvalid
from adapters_store.light import MAX_FRESH, LightReader, PackageTensors
from adapters_store.package import HostAdapter, read_package
from adapters_store.store import AdapterStore
from tests.fakes import write_expert


class Reads:
    """Counts the reading of whole packages."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.seconds: list[float] = []

    def __call__(self, directory: Path) -> HostAdapter:
        self.names.append(directory.name)
        return read_package(directory)


@pytest.fixture
def reads() -> Reads:
    return Reads()


@pytest.fixture
def reader(reads: Reads) -> LightReader:
    return LightReader(reads, reads.seconds.append, small_bytes=0)


def test_a_package_is_read_once_and_its_weights_are_handed_over_once(
    tmp_path: Path, reads: Reads, reader: LightReader
) -> None:
    write_expert(tmp_path, "sql", grammar_text='root ::= "x"')
    whole = read_package(tmp_path / "sql")
    light = reader(tmp_path / "sql")
    assert (light.generation, light.grammar, light.config) == (whole.generation, whole.grammar, whole.config)
    assert light.num_bytes == 0
    tensors = dict(light.tensors.items())
    assert tensors.keys() == whole.tensors.keys() and reads.names == ["sql"]
    assert all(torch.equal(tensors[name], whole.tensors[name]) for name in tensors)
    assert reader(tmp_path / "sql") is light and reads.names == ["sql"]
    assert dict(light.tensors) and len(light.tensors) == 2, "they are read again"
    assert len(reads.names) > 1 and len(reads.seconds) == len(reads.names)


def test_a_small_package_is_kept_whole(tmp_path: Path, reads: Reads) -> None:
    write_expert(tmp_path, "sql")
    found = LightReader(reads)(tmp_path / "sql")
    assert not isinstance(found.tensors, PackageTensors) and found.num_bytes == 32


def test_a_package_that_changes_is_verified_again(tmp_path: Path, reads: Reads, reader: LightReader) -> None:
    write_expert(tmp_path, "sql")
    old = reader(tmp_path / "sql")
    write_expert(tmp_path, "sql", cues=("new",))
    new = reader(tmp_path / "sql")
    assert new.generation != old.generation and reads.names == ["sql", "sql"]


def test_a_changed_byte_is_refused_at_the_next_look(tmp_path: Path, reader: LightReader) -> None:
    write_expert(tmp_path, "sql")
    reader(tmp_path / "sql")
    weights = tmp_path / "sql" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(PackageInvalid, match="sha256"):
        reader(tmp_path / "sql")


def test_weights_of_a_package_that_was_replaced_are_not_taken_from_the_new_one(
    tmp_path: Path, reader: LightReader
) -> None:
    write_expert(tmp_path, "sql")
    old = reader(tmp_path / "sql")
    old.tensors.items()
    write_expert(tmp_path, "sql", cues=("new",))
    with pytest.raises(PackageInvalid, match="replaced while"):
        old.tensors.items()


def test_weights_that_nobody_takes_do_not_pile_up(tmp_path: Path, reader: LightReader) -> None:
    for number in range(MAX_FRESH + 3):
        write_expert(tmp_path, f"e{number}", cues=(f"cue {number}",))
        reader(tmp_path / f"e{number}")
    assert len(reader._fresh) == MAX_FRESH


def test_a_store_counts_no_weights_that_are_not_there(tmp_path: Path, reader: LightReader) -> None:
    write_expert(tmp_path, "sql")
    store = AdapterStore(tmp_path, 1 << 20, reader)
    with store.fetch("sql") as lease:
        assert store.stats().resident_bytes == 0 and lease.adapter.tensors
