"""Changes of the catalogue, seen through the store that serves."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from adapters_store.errors import ExpertNotFound, GenerationConflict, NameTaken, PackageInvalid, StoreError
from adapters_store.index import CATALOG_DIR, Index, IndexFile, Record, package_directory
from adapters_store.installer import Installer, read_content
from adapters_store.manifest import WEIGHTS_FILE
from adapters_store.package import MANIFEST_FILE, read_package, write_package
from adapters_store.policy import Policy
from adapters_store.store import AdapterStore
from tests.unit.adapters_store.packages import entry, lora_files, lora_manifest, lora_tensors

AMPLE = 1 << 20


def content(name: str = "a", value: float = 1.0) -> dict[str, bytes]:
    """A whole package in memory, its tensors all of one value."""
    files = lora_files(value)
    manifest = replace(lora_manifest(name), files=tuple(entry(file, data) for file, data in files.items()))
    return {**files, MANIFEST_FILE: manifest.to_json()}


def value_of(store: AdapterStore, name: str) -> float:
    with store.fetch(name) as lease:
        [value] = {float(tensor.max()) for tensor in lease.adapter.tensors.values()}
        return value


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in (root / CATALOG_DIR / "staging").iterdir())


def packages(root: Path) -> set[str]:
    return {path.name for path in (root / CATALOG_DIR / "packages").iterdir()}


def test_an_installed_expert_is_served_and_lies_under_its_generation(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path, AMPLE)
    change = Installer(tmp_path).install(content(value=3))
    assert (change.name, change.previous) == ("a", None)
    assert value_of(store, "a") == 3
    assert read_package(package_directory(tmp_path, "a", change.generation)).generation == change.generation
    assert leftovers(tmp_path) == []


def test_a_store_that_was_open_before_notices_every_change(tmp_path: Path) -> None:
    store, installer = AdapterStore(tmp_path, AMPLE), Installer(tmp_path)
    for value in (1, 2, 3, 2, 1):
        installer.install(content(value=value))
        assert value_of(store, "a") == value
    installer.remove("a")
    with pytest.raises(ExpertNotFound):
        store.fetch("a")


def test_what_is_replaced_stands_by_and_can_be_swapped_back(tmp_path: Path) -> None:
    store, installer = AdapterStore(tmp_path, AMPLE), Installer(tmp_path)
    first = installer.install(content(value=1))
    second = installer.install(content(value=2))
    assert second.previous == first.generation
    assert packages(tmp_path) == {first.generation, second.generation}
    swapped = installer.swap("a")
    assert (swapped.generation, swapped.previous) == (first.generation, second.generation)
    assert value_of(store, "a") == 1
    installer.install(content(value=3))
    assert second.generation not in packages(tmp_path)


def test_a_lease_keeps_the_generation_that_was_removed_from_disk(tmp_path: Path) -> None:
    store, installer = AdapterStore(tmp_path, AMPLE), Installer(tmp_path)
    installer.install(content(value=1))
    with store.fetch("a") as lease:
        installer.remove("a")
        assert packages(tmp_path) == set()
        assert all(float(tensor.max()) == 1 for tensor in lease.adapter.tensors.values())


def test_what_was_removed_or_replaced_leaves_memory_with_the_next_fetch_of_anything(tmp_path: Path) -> None:
    store, installer = AdapterStore(tmp_path, AMPLE), Installer(tmp_path)
    for name in ("a", "b", "c"):
        installer.install(content(name, value=1))
        store.fetch(name).release()
    lease = store.fetch("b")
    installer.remove("a")
    second = installer.install(content("b", value=2)).generation
    store.fetch("c").release()
    assert [(r.name, r.is_retired) for r in store.residents()] == [("c", False), ("b", True)]
    lease.release()
    with store.fetch("b") as fresh:
        assert fresh.adapter.generation == second
    assert [resident.name for resident in store.residents()] == ["c", "b"]


def test_what_was_removed_leaves_memory_when_the_catalogue_is_read(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path, AMPLE)
    Installer(tmp_path).install(content("a"))
    store.fetch("a").release()
    Installer(tmp_path).remove("a")
    assert (store.list(), store.residents()) == ((), ())


def test_every_generation_that_is_unloaded_removed_or_replaced_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    installer = Installer(tmp_path)
    write_package(tmp_path / "plain", lora_manifest("plain"), lora_files())
    made = {name: installer.install(content(name)).generation for name in ("a", "b", "c")}
    store = AdapterStore(tmp_path, AMPLE, on_unload=told.append)
    plain = store.fetch("plain")
    store.fetch("a").release()
    plain.release()
    assert told == []
    store.unload("a")
    assert told == [made["a"]]
    installer.install(content("b", value=2))  # never fetched here: somebody else may hold it
    installer.remove("c")
    installer.remove("plain")
    store.list()
    assert sorted(told) == sorted([*made.values(), plain.adapter.generation])


def test_an_expert_of_another_base_is_not_replaced_unseen(tmp_path: Path) -> None:
    """The policy of who installs says nothing about what is there."""
    write_package(tmp_path / "a", replace(lora_manifest("a"), base="sha256:" + "0" * 64), lora_files(2))
    installer = Installer(tmp_path, Policy(base=lora_manifest().base))
    with pytest.raises(GenerationConflict, match="not none as expected"):
        installer.install(content("a"), expected=None)
    change = installer.install(content("a"))
    assert change.previous == read_package(tmp_path / "a").generation


def test_a_link_to_nowhere_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "gone")
    assert AdapterStore(tmp_path, AMPLE).faults.keys() == {"a"}
    Installer(tmp_path).remove("a")
    assert AdapterStore(tmp_path, AMPLE).faults == {}


def test_replacing_with_the_same_content_changes_nothing(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    installer.install(content())
    before = IndexFile(tmp_path).read()
    assert installer.install(content()).previous == next(iter(before.experts.values())).active
    assert IndexFile(tmp_path).read() == before


def test_an_expected_generation_that_is_not_there_is_a_conflict(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    first = installer.install(content(value=1), expected=None)
    with pytest.raises(GenerationConflict, match="not none as expected"):
        installer.install(content(value=2), expected=None)
    second = installer.install(content(value=2), expected=first.generation)
    for act in (
        lambda: installer.install(content(value=3), expected=first.generation),
        lambda: installer.swap("a", expected=first.generation),
        lambda: installer.remove("a", expected=first.generation),
    ):
        with pytest.raises(GenerationConflict, match=f"has the generation {second.generation[:12]}"):
            act()
    assert leftovers(tmp_path) == []


def test_of_ten_writers_that_expect_the_same_one_wins(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    first = installer.install(content(value=0)).generation

    def attempt(value: int) -> bool:
        try:
            installer.install(content(value=value), expected=first)
        except GenerationConflict:
            return False
        return True

    with ThreadPoolExecutor(5) as pool:
        assert sum(pool.map(attempt, range(1, 11))) == 1


def test_what_could_not_be_served_is_not_installed(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    installer.install(content(value=1))
    broken = content(value=2) | {WEIGHTS_FILE: b"no tensors"}
    with pytest.raises(PackageInvalid, match="the manifest says"):
        installer.install(broken)
    assert value_of(AdapterStore(tmp_path, AMPLE), "a") == 1
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("stray", ["../x", "/etc/passwd", "sub/x", ".."])
def test_a_file_name_that_leads_elsewhere_is_never_written(tmp_path: Path, stray: str) -> None:
    with pytest.raises(PackageInvalid) as refusal:
        Installer(tmp_path).install(content() | {stray: b""})
    assert refusal.value.code == "archive_path"


@pytest.mark.parametrize(("raw", "code"), [({}, "manifest_missing"), ({MANIFEST_FILE: b"{"}, "manifest_invalid")])
def test_content_without_a_manifest_is_refused(tmp_path: Path, raw: dict[str, bytes], code: str) -> None:
    with pytest.raises(PackageInvalid) as refusal:
        Installer(tmp_path).install(raw)
    assert refusal.value.code == code


def test_the_policy_is_asked_before_anything_is_installed(tmp_path: Path) -> None:
    with pytest.raises(PackageInvalid, match="the limit is 1"):
        Installer(tmp_path, Policy(max_rank=1)).install(content())
    assert packages(tmp_path) == set()


def test_an_installed_expert_wins_over_a_plain_directory_which_stands_by(tmp_path: Path) -> None:
    write_package(tmp_path / "a", lora_manifest("a"), lora_files(1))
    store, installer = AdapterStore(tmp_path, AMPLE), Installer(tmp_path)
    change = installer.install(content(value=2))
    assert change.previous == read_package(tmp_path / "a").generation
    assert value_of(store, "a") == 2
    installer.swap("a")
    assert value_of(store, "a") == 1


def test_a_broken_plain_directory_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    change = Installer(tmp_path).install(content(), expected=None)
    assert change.previous is None
    with pytest.raises(StoreError, match="expert 'a' has no standby"):
        Installer(tmp_path).swap("a")


def test_a_removed_expert_does_not_reappear_as_the_directory_below_it(tmp_path: Path) -> None:
    write_package(tmp_path / "a", lora_manifest("a"), lora_files(1))
    installer = Installer(tmp_path)
    installer.install(content(value=2))
    installer.remove("a")
    assert AdapterStore(tmp_path, AMPLE).states() == ()


def test_an_alias_serves_its_expert_and_can_be_moved_and_removed(tmp_path: Path) -> None:
    store, installer = AdapterStore(tmp_path, AMPLE), Installer(tmp_path)
    installer.install(content("a", 1))
    installer.install(content("b", 2))
    installer.alias("best", "a")
    assert value_of(store, "best") == 1
    installer.alias("best", "b")
    assert value_of(store, "best") == 2
    assert [state.aliases for state in store.states()] == [(), ("best",)]
    installer.remove("best")
    with pytest.raises(ExpertNotFound):
        store.fetch("best")
    assert value_of(store, "b") == 2


def test_names_of_experts_and_aliases_do_not_meet(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    write_package(tmp_path / "plain", lora_manifest("plain"), lora_files())
    installer.install(content("a"))
    installer.alias("best", "a")
    for name in ("a", "plain"):
        with pytest.raises(NameTaken, match="belongs to an expert"):
            installer.alias(name, "a")
    with pytest.raises(NameTaken, match="an alias of 'a'"):
        installer.install(content("best"))
    with pytest.raises(StoreError, match="does not match"):
        installer.alias("../b", "a")


def test_removing_an_expert_takes_its_aliases_and_its_pin(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    installer.install(content("a"))
    installer.alias("best", "a")
    installer.pin("a")
    installer.remove("a")
    index = IndexFile(tmp_path).read()
    assert (dict(index.experts), dict(index.aliases), index.pins) == ({}, {}, frozenset())


@pytest.mark.parametrize("name", ["gone", "../a", "", ".catalog"])
def test_what_is_not_there_can_neither_be_removed_nor_pinned(tmp_path: Path, name: str) -> None:
    installer = Installer(tmp_path)
    installer.install(content("a"))
    for act in (installer.remove, installer.pin, installer.swap):
        with pytest.raises(ExpertNotFound, match="known experts: a"):
            act(name)


def test_a_pinned_expert_stays_in_memory_while_others_take_turns(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    for name in ("a", "b", "c"):
        installer.install(content(name))
    installer.pin("a")
    tensor_bytes = sum(tensor.nbytes for tensor in lora_tensors().values())
    store = AdapterStore(tmp_path, tensor_bytes + len(lora_files()[WEIGHTS_FILE]))  # one, and one that is being read
    for name in ("a", "b", "c", "b", "c"):
        store.fetch(name).release()
    assert "a" in {resident.name for resident in store.residents()}
    installer.pin("a", False)
    for name in ("b", "c", "b", "c"):
        store.fetch(name).release()
    assert "a" not in {resident.name for resident in store.residents()}


def test_unloading_frees_memory_at_once_or_with_the_last_lease(tmp_path: Path) -> None:
    store = AdapterStore(tmp_path, AMPLE)
    Installer(tmp_path).install(content("a"))
    store.fetch("a").release()
    assert store.unload("a") and store.stats().resident_bytes == 0
    assert not store.unload("a")
    with store.fetch("a") as lease:
        assert store.unload("a")
        [resident] = store.residents()
        assert (resident.is_retired, resident.leases, resident.generation) == (True, 1, lease.adapter.generation)
    assert store.residents() == ()
    assert store.stats().resident_bytes == 0


def test_a_package_that_broke_on_disk_is_repaired_by_installing_it_again(tmp_path: Path) -> None:
    installer = Installer(tmp_path)
    change = installer.install(content("a", 1))
    weights = package_directory(tmp_path, "a", change.generation) / WEIGHTS_FILE
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    installer.install(content("a", 2))
    installer.install(content("a", 1))
    assert value_of(AdapterStore(tmp_path, AMPLE), "a") == 1


def test_a_damaged_index_is_an_error_and_not_an_empty_catalogue(tmp_path: Path) -> None:
    Installer(tmp_path).install(content("a"))
    path = tmp_path / CATALOG_DIR / "index.json"
    members = json.loads(path.read_text())
    members["experts"]["a"]["active"] = "../../x"
    for text in ("", "{", json.dumps(members)):
        path.write_text(text)
        with pytest.raises(StoreError, match="cannot be read"):
            AdapterStore(tmp_path, AMPLE).list()


def test_the_index_survives_the_round_trip(tmp_path: Path) -> None:
    (tmp_path / CATALOG_DIR).mkdir()
    index = Index(4, {"a": Record("0" * 64), "b": Record("1" * 64, "2" * 64)}, {"c": "a"}, frozenset({"b"}))
    IndexFile(tmp_path).write(index)
    assert IndexFile(tmp_path).read() == replace(index, revision=5)


def test_a_root_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / CATALOG_DIR).write_text("in the way")
    with pytest.raises(StoreError, match="cannot be changed"):
        Installer(tmp_path).install(content())
    with pytest.raises(StoreError, match="there is no directory of experts"):
        Installer(tmp_path / "gone")


def test_a_package_directory_is_read_whole_within_the_limit(tmp_path: Path) -> None:
    write_package(tmp_path / "a", lora_manifest("a"), lora_files())
    assert read_content(tmp_path / "a").keys() == {*lora_files(), MANIFEST_FILE}
    with pytest.raises(PackageInvalid) as refusal:
        read_content(tmp_path / "a", Policy(max_package_bytes=100))
    assert refusal.value.code == "file_too_large"
