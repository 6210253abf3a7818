"""Packages, adapters and archives, mutated, from the file that an operator was sent to the engine's own form."""

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from adapters_store.errors import PackageInvalid
from adapters_store.installer import Installer
from adapters_store.package import MANIFEST_FILE
from adapters_store.policy import Policy
from adapters_store.store import AdapterStore
from engine.errors import AdapterIncompatible
from engine.lowering import Lowering
from server.packages import Source, import_source
from tests.unit.adapters_store.archives import Entries, special_tar, tar_of, zip_of
from tests.unit.adapters_store.packages import HIDDEN, ia3_files, lora_files
from tests.unit.adapters_store.test_archive import damaged
from tests.unit.adapters_store.test_importing import BASE, hive_files, hive_v1, hive_v2
from tests.unit.adapters_store.test_package_fuzz import change_json, cut, flip, grow, mutated, splice

LAYERS = {f"layers.0.{name}": (HIDDEN, HIDDEN) for name in ("self_attn.q_proj", "self_attn.k_proj")}
PACKS: list[Callable[[Entries], bytes]] = [tar_of, lambda entries: tar_of(entries, "w:"), zip_of]
STRAYS = [
    "../up",
    "/etc/hotseat",
    "a/../../up",
    "C:\\up",
    "sub/dir/file",
    "adapter_config.json",
    "odd\0name",
    "x" * 300,
]


def source_files(rng: Random) -> dict[str, bytes]:
    """One of the kinds of things that can be imported, usually with a fault in one file."""
    kind = rng.randrange(5)
    if kind == 0:
        files = mutated(rng)
        victim = rng.choice(list(files))
        is_foul = bool(files[victim]) and rng.random() < 0.2  # after its digest was taken
        return {**files, victim: flip(rng, files[victim])} if is_foul else files
    files = dict([lora_files(), ia3_files(), hive_files(hive_v1()), hive_files(hive_v2("Qwen3-0.6B"))][kind - 1])
    victim = rng.choice(list(files))
    mutation = rng.choice([flip, cut, grow, splice])
    if victim.endswith(".json") and files[victim].startswith(b"{") and rng.random() < 0.7:
        mutation = change_json
    if rng.random() < 0.9 and files[victim]:
        files[victim] = mutation(rng, files[victim])
    return files


def packed(rng: Random, files: dict[str, bytes]) -> bytes:
    """An archive of them, sometimes with an entry that does not belong, sometimes damaged."""
    entries = list(files.items())
    if rng.random() < 0.15:
        entries.insert(rng.randrange(len(entries) + 1), (rng.choice(STRAYS), b"stray"))
    pack = rng.choice(PACKS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # zipfile's, about a name that occurs twice
            archive = pack(entries)
    except ValueError:  # a name that this kind of archive cannot hold
        archive = special_tar(b"2")
    return damaged(rng, archive) if rng.random() < 0.2 else archive


def taken(path: Path, root: Path, lowering: Lowering) -> str:
    """What became of it; anything but a clean refusal escapes."""
    try:
        imported = import_source(Source(path, name="tiny"), BASE)
        change = Installer(root, Policy(base=BASE, max_rank=8)).install(imported.content)
    except PackageInvalid as refusal:
        assert refusal.fault and refusal.code != "package_invalid"
        return refusal.code
    with AdapterStore(root, 1 << 20).fetch(change.name) as lease:
        assert lease.adapter.generation == change.generation
        try:
            lowering.lower(lease.adapter)
        except AdapterIncompatible:
            return "incompatible"
    return "served"


def fuzz(directory: Path, seed: int, rounds: int) -> Counter[str]:
    """How often each code, `incompatible` or `served` was the answer; nothing but the catalogue is ever written."""
    rng = Random(seed)
    root, path = directory / "experts", directory / "sent.expert"
    root.mkdir()
    lowering = Lowering(LAYERS, lambda _: torch.ones(HIDDEN, HIDDEN), HIDDEN, 8, 8)
    outcomes: Counter[str] = Counter()
    for _ in range(rounds):
        path.write_bytes(packed(rng, source_files(rng)))
        outcomes[taken(path, root, lowering)] += 1
    assert {entry.name for entry in directory.iterdir()} == {"experts", "sent.expert"}
    assert {entry.name for entry in root.iterdir()} == {".catalog"}
    assert list((root / ".catalog" / "staging").iterdir()) == []
    assert AdapterStore(root, 1 << 20).faults == {}
    for kept in (root / ".catalog" / "packages").rglob("*"):
        assert kept.is_dir() or kept.name in {*lora_files(), *ia3_files(), MANIFEST_FILE, "grammar.gbnf", "README.md"}
    return outcomes


def test_mutated_imports_are_served_or_refused_cleanly(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, seed=7, rounds=200)
    assert outcomes["served"] > 10
    assert len(outcomes) > 10


@pytest.mark.slow
def test_ten_thousand_mutated_imports_are_served_or_refused_cleanly(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, seed=77, rounds=10_000)
    assert outcomes.total() == 10_000
    assert {"archive_path", "archive_duplicate", "archive_invalid", "safetensors_invalid", "file_digest"} <= set(
        outcomes
    )
