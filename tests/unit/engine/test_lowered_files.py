"""Lowered adapters on disk: what comes back is what was written, and what is not is never used."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from engine import lowered_format
from engine.lowered_files import ABANDONED_S, FilesConfig, LoweredFiles
from engine.lowered_format import LoweredDamaged, SlotLayout
from engine.model.delta import Delta, LinearDelta
from engine.packing import StoredDelta, pack, unpack
from engine.tier_stats import SwapTimes

LAYOUT = SlotLayout({"q": (8, 16), "v": (4, 16)}, 16, 4, 2, torch.float32, torch.bfloat16)


def delta(generation: str = "generation", rank: int = 2) -> Delta:
    torch.manual_seed(rank)
    a, b = torch.randn(rank, 16).bfloat16(), torch.randn(rank, 8).bfloat16()
    linears = {
        "q": LinearDelta(a=a, b=b, g=torch.randn(8)),
        "v": LinearDelta(a=torch.randn(2, 8).bfloat16(), b=torch.randn(2, 2).bfloat16(), k=torch.randn(2, 2)),
    }
    return Delta(generation, "name", linears, torch.randn(2, 16), "dora")


def files_in(directory: Path, capacity: int = 1 << 20, key: str = "key") -> LoweredFiles:
    return LoweredFiles(FilesConfig(directory, capacity, key, "plain"), SwapTimes())


def only_file(directory: Path) -> Path:
    (path,) = directory.glob("*/*")
    return path


def same(mine: StoredDelta, theirs: StoredDelta) -> bool:
    return mine.tensors.keys() == theirs.tensors.keys() and all(
        torch.equal(tensor, theirs.tensors[name]) and tensor.dtype == theirs.tensors[name].dtype
        for name, tensor in mine.tensors.items()
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    stored = pack(delta(), "plain")
    files_in(tmp_path).write(stored)
    found = files_in(tmp_path).read("generation")
    assert found and same(found, stored)
    assert (found.generation, found.name, found.kind) == ("generation", "name", "dora")
    LAYOUT.check(unpack(found, torch.bfloat16))


def test_the_file_is_one_that_safetensors_reads(tmp_path: Path) -> None:
    files_in(tmp_path).write(stored := pack(delta(), "plain"))
    with safe_open(only_file(tmp_path), "pt") as file:
        assert {name: file.get_tensor(name).tolist() for name in file.keys()} == {
            name: tensor.tolist() for name, tensor in stored.tensors.items()
        }


def test_another_key_generation_or_storage_finds_nothing(tmp_path: Path) -> None:
    files_in(tmp_path).write(pack(delta(), "plain"))
    assert files_in(tmp_path, key="other").read("generation") is None
    assert files_in(tmp_path).read("other") is None
    content = lowered_format.load(only_file(tmp_path), pinned=False)
    for key, generation, storage in (("x", "generation", "plain"), ("key", "x", "plain"), ("key", "generation", "x")):
        with pytest.raises(LoweredDamaged, match="not 'x'"):
            lowered_format.parse(content, key, generation, storage)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    files_in(tmp_path).write(pack(delta(), "plain"))
    raw = bytearray(only_file(tmp_path).read_bytes())
    padding = 8 + struct.unpack("<Q", raw[:8])[0]
    for place in range(len(raw)):
        if raw[place] == ord(" ") and place >= padding - 8:
            continue  # white space of the header means nothing
        damaged = raw.copy()
        damaged[place] ^= 1
        with pytest.raises(LoweredDamaged):
            lowered_format.parse(torch.frombuffer(damaged, dtype=torch.uint8), "key", "generation", "plain")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 1 << 63))
def test_any_bytes_are_damage_and_nothing_else(rest: bytes, length: int) -> None:
    content = torch.frombuffer(bytearray(struct.pack("<Q", length) + rest), dtype=torch.uint8)
    with pytest.raises(LoweredDamaged):
        lowered_format.parse(content, "key", "generation", "plain")


def signed(entries: dict[str, Any], data: bytes) -> torch.Tensor:
    """A file with any header and the right digest."""
    about = {"version": "1", "key": "key", "generation": "g", "name": "n", "kind": "lora", "storage": "plain"}
    digest = lowered_format._digest(entries, about, memoryview(data))
    header = json.dumps({"__metadata__": {**about, "sha256": digest}, **entries}).encode()
    header += b" " * (-len(header) % 8)
    return torch.frombuffer(bytearray(len(header).to_bytes(8, "little") + header + data), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("dtype", "shape", "offsets"),
    [
        ("F32", [4], [0, 32]),
        ("F32", [16], [0, 64]),
        ("F32", [-2, -4], [0, 32]),
        ("F32", [0], [8, 8]),
        ("F32", [7], [2, 30]),
        ("F32", [8], [-32, 0]),
        ("F64", [4], [0, 32]),
        ("F32", ["8"], [0, 32]),
        ("F32", [8], [0]),
        ("F32", [1 << 62, 8], [0, 32]),
    ],
)
def test_a_header_that_points_elsewhere_is_damage_even_with_the_right_digest(
    dtype: str, shape: list[Any], offsets: list[int]
) -> None:
    content = signed({"q|g": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}, bytes(32))
    with pytest.raises(LoweredDamaged):
        lowered_format.parse(content, "key", "g", "plain")


def bf16(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    "linear",
    [
        LinearDelta(a=bf16(5, 16), b=bf16(5, 8)),
        LinearDelta(a=bf16(2, 16), b=bf16(3, 8)),
        LinearDelta(a=bf16(2, 8), b=bf16(2, 8)),
        LinearDelta(a=bf16(2, 16), b=bf16(2, 9)),
        LinearDelta(a=bf16(2, 16)),
        LinearDelta(a=torch.zeros(2, 16), b=bf16(2, 8)),
        LinearDelta(k=torch.zeros(2, 2)),
        LinearDelta(a=bf16(2, 8), b=bf16(2, 4), k=bf16(2, 2)),
        LinearDelta(a=bf16(4, 1), b=bf16(4, 1), k=torch.zeros(8, 16)),
        LinearDelta(g=torch.zeros(16)),
        LinearDelta(c=torch.zeros(16, dtype=torch.float64)),
    ],
)
def test_what_a_slot_has_no_room_for_is_refused(linear: LinearDelta) -> None:
    with pytest.raises(LoweredDamaged):
        LAYOUT.check(Delta("g", "n", {"q": linear}))


def test_a_strange_layer_or_prompt_is_refused() -> None:
    for strange in (
        Delta("g", "n", {"z": LinearDelta(g=torch.zeros(8))}),
        Delta("g", "n", {}, torch.zeros(3, 16)),
        Delta("g", "n", {}, torch.zeros(2, 15)),
        Delta("g", "n", {}, torch.zeros(16)),
    ):
        with pytest.raises(LoweredDamaged):
            LAYOUT.check(strange)


def test_a_damaged_file_is_deleted_and_written_anew(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.write(stored := pack(delta(), "plain"))
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert files.read("generation") is None and not path.exists() and files.stats().num_bytes == 0
    files.write(stored)
    files.write(stored)
    found = files.read("generation")
    assert found and same(found, stored) and files.stats().residents == 1
    assert files.stats().num_bytes == path.stat().st_size


def test_the_oldest_files_of_any_key_go_first_and_a_use_makes_young(tmp_path: Path) -> None:
    files_in(tmp_path, key="stale").write(pack(delta("stale"), "plain"))
    size = only_file(tmp_path).stat().st_size
    files = files_in(tmp_path, capacity=3 * size + size // 2)
    for age, generation in enumerate(("a", "b")):
        files.write(pack(delta(generation), "plain"))
        os.utime(files._path(generation), (age + 10, age + 10))
    for path in files.config.root.glob("*/*"):
        if path.parent != files._path("a").parent:
            os.utime(path, (1, 1))
    assert files.read("a")
    files.write(pack(delta("c"), "plain"))
    assert files.stats().evictions == 1, "of another key, and the oldest"
    files.write(pack(delta("d"), "plain"))
    assert files.read("b") is None and files.read("a") and files.read("c") and files.read("d")
    assert files.stats().num_bytes <= files.config.capacity_bytes


def test_what_a_writer_that_was_killed_left_behind_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    old, new = tmp_path / "x" / "old.part", tmp_path / "x" / "new.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (old.stat().st_mtime - ABANDONED_S - 9,) * 2)
    files_in(tmp_path)
    assert not old.exists() and new.exists()


def test_a_directory_that_cannot_be_written_costs_nothing_but_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    files = files_in(tmp_path / "file")
    files.write(pack(delta(), "plain"))
    assert files.read("generation") is None and "not kept on disk" in caplog.text


def test_an_adapter_above_the_bound_is_not_written(tmp_path: Path) -> None:
    files_in(tmp_path, capacity=10).write(pack(delta(), "plain"))
    assert not list(tmp_path.glob("*/*"))
