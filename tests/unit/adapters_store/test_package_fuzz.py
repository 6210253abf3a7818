"""Packages, mutated: each is served as it is or refused under a code, and never anything else."""

import json
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from adapters_store.errors import PackageInvalid
from adapters_store.manifest import CONFIG_FILE, WEIGHTS_FILE
from adapters_store.package import MANIFEST_FILE, read_package
from tests.unit.adapters_store.packages import entry, ia3_files, ia3_manifest, lora_files, lora_manifest

ODD_VALUES: list[Any] = [
    None, True, -1, 0, 2**63, 1e308, "", "..", "/etc/passwd", "\0", "é" * 300, "\ud800", [], {}, [[]], {"a": {}}, "1",
]  # fmt: skip
SOURCES = [(lora_manifest(), lora_files()), (ia3_manifest(), ia3_files())]
Mutation = Callable[[Random, bytes], bytes]


def flip(rng: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def cut(rng: Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def grow(rng: Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 40)) + data[at:]


def splice(rng: Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:start] + data[end:]


def change_member(rng: Random, members: Any) -> None:
    """Somewhere in the tree: another value, no value, or one value more."""
    while True:
        keys = list(members) if isinstance(members, dict) else list(range(len(members)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(members[key], dict | list) and rng.random() < 0.7:
            members = members[key]
            continue
        action = rng.randrange(3)
        if action == 0:
            members[key] = rng.choice(ODD_VALUES)
        elif action == 1:
            del members[key]
        elif isinstance(members, dict):
            members[rng.choice(["odd", "r", "name", "peft_type"])] = rng.choice(ODD_VALUES)
        return


def change_json(rng: Random, data: bytes) -> bytes:
    members = json.loads(data)
    change_member(rng, members)
    return json.dumps(members).encode()


def change_header(rng: Random, data: bytes) -> bytes:
    """Of a safetensors file: its length, or one of its values."""
    length = struct.unpack("<Q", data[:8])[0]
    if rng.random() < 0.3:
        return struct.pack("<Q", rng.choice([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1])) + data[8:]
    header = change_json(rng, data[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


ANYWHERE: list[Mutation] = [flip, cut, grow, splice]


def mutated(rng: Random) -> dict[str, bytes]:
    """All files of a package. Digests fit unless the manifest was what changed, so that the next guard is met."""
    manifest, files = rng.choice(SOURCES)
    files = dict(files)
    victim = rng.choice([MANIFEST_FILE, *files])
    mutation = rng.choice(ANYWHERE)
    if rng.random() < 0.6:
        mutation = change_header if victim.endswith(".safetensors") else change_json
    if victim != MANIFEST_FILE:
        files[victim] = mutation(rng, files[victim])
    listing = [entry(name, data) for name, data in files.items()]
    raw = json.loads(manifest.to_json())
    raw["files"] = [{"name": item.name, "size": item.size, "sha256": item.sha256} for item in listing]
    if rng.random() < 0.3:
        raw["schema_version"] = 1
    files[MANIFEST_FILE] = json.dumps(raw).encode()
    if victim == MANIFEST_FILE:
        files[MANIFEST_FILE] = mutation(rng, files[MANIFEST_FILE])
    return files


def fuzz(tiny: Path, seed: int, rounds: int) -> Counter[str]:
    """How often each code, or `served`, was the answer. Anything but a clean refusal escapes."""
    rng = Random(seed)
    tiny.mkdir()
    outcomes: Counter[str] = Counter()
    for _ in range(rounds):
        files = mutated(rng)
        for name in (MANIFEST_FILE, CONFIG_FILE, WEIGHTS_FILE, "soft_prompt.safetensors"):
            (tiny / name).unlink(missing_ok=True)
        for name, data in files.items():
            (tiny / name).write_bytes(data)
        try:
            adapter = read_package(tiny)
        except PackageInvalid as refusal:
            assert refusal.fault and refusal.name == "tiny"
            outcomes[refusal.code] += 1
        else:
            assert all(tensor.isfinite().all() for tensor in adapter.tensors.values())
            outcomes["served"] += 1
    return outcomes


def test_mutated_packages_are_served_or_refused_cleanly(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path / "tiny", seed=6, rounds=1500)
    assert len(outcomes) > 8
    assert "package_invalid" not in outcomes  # every refusal has a code of its own


@pytest.mark.slow
def test_ten_thousand_mutated_packages_are_served_or_refused_cleanly(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path / "tiny", seed=10_000, rounds=10_000)
    assert outcomes.total() == 10_000
    assert "package_invalid" not in outcomes
