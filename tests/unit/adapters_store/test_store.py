"""The store over real packages."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from adapters_store.errors import ExpertNotFound, PackageInvalid, StoreError, StoreFull
from adapters_store.manifest import WEIGHTS_FILE
from adapters_store.package import HostAdapter, read_package, write_package
from adapters_store.store import AdapterStore
from tests.unit.adapters_store.packages import (
    ia3_files,
    ia3_manifest,
    lora_files,
    lora_manifest,
    lora_tensors,
    wait_until,
    write_unchecked,
)

TENSOR_BYTES = sum(tensor.nbytes for tensor in lora_tensors().values())
TENSOR_FILE_BYTES = len(lora_files()[WEIGHTS_FILE])
AMPLE = 100 * TENSOR_FILE_BYTES


def publish(root: Path, *names: str, value: float = 1.0) -> None:
    for name in names:
        write_package(root / name, lora_manifest(name), lora_files(value))


class CountingReader:
    """Reads packages as the store does, counts, and waits if it is told to."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.is_allowed = Event()
        self.is_allowed.set()

    def __call__(self, directory: Path) -> HostAdapter:
        self.names.append(directory.name)
        assert self.is_allowed.wait(5)
        return read_package(directory)


def test_usable_experts_are_listed_and_described(tmp_path: Path) -> None:
    publish(tmp_path, "b", "a")
    write_package(tmp_path / "c", ia3_manifest("c"), ia3_files())
    store = AdapterStore(tmp_path, AMPLE)
    assert [manifest.name for manifest in store.list()] == ["a", "b", "c"]
    assert store.get("c").kind_label == "ia3+soft_prompt"
    assert store.faults == {}


def test_an_empty_root_has_no_experts(tmp_path: Path) -> None:
    assert AdapterStore(tmp_path, AMPLE).list() == ()


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no directory of experts"):
        AdapterStore(tmp_path / "gone", AMPLE)


@pytest.mark.parametrize("name", ["c", "../a", "", "A"])
def test_an_unknown_expert_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    publish(tmp_path, "a", "b")
    store = AdapterStore(tmp_path, AMPLE)
    ask: Callable[[str], object]
    for ask in (store.get, store.fetch):
        with pytest.raises(ExpertNotFound, match="known experts: a, b"):
            ask(name)


def test_a_fetched_expert_is_the_one_on_disk(tmp_path: Path) -> None:
    publish(tmp_path, "a")
    with AdapterStore(tmp_path, AMPLE).fetch("a") as lease:
        assert lease.adapter.manifest.name == "a"
        assert lease.adapter.generation == read_package(tmp_path / "a").generation


def test_a_second_fetch_does_not_read_again(tmp_path: Path) -> None:
    publish(tmp_path, "a")
    reader = CountingReader()
    store = AdapterStore(tmp_path, AMPLE, reader)
    with store.fetch("a") as first, store.fetch("a") as second:
        assert first.adapter is second.adapter
    assert reader.names == ["a"]
    assert (store.stats().hits, store.stats().misses, store.stats().loads) == (1, 1, 1)


def test_ten_concurrent_fetches_read_once(tmp_path: Path) -> None:
    publish(tmp_path, "a")
    reader = CountingReader()
    reader.is_allowed.clear()
    store = AdapterStore(tmp_path, AMPLE, reader)
    with ThreadPoolExecutor(10) as pool:
        leases = [pool.submit(store.fetch, "a") for _ in range(10)]
        wait_until(lambda: store.stats().misses == 10)
        reader.is_allowed.set()
        assert len({id(lease.result(5).adapter) for lease in leases}) == 1
    assert reader.names == ["a"]


def test_a_replaced_package_is_a_new_generation_while_a_lease_keeps_the_old_one(tmp_path: Path) -> None:
    publish(tmp_path, "a", value=1)
    store = AdapterStore(tmp_path, AMPLE)
    with store.fetch("a") as old:
        publish(tmp_path, "a", value=2)
        with store.fetch("a") as new:
            assert new.adapter.generation != old.adapter.generation
            assert {float(tensor.max()) for tensor in old.adapter.tensors.values()} == {1.0}
            assert {float(tensor.max()) for tensor in new.adapter.tensors.values()} == {2.0}
            assert store.stats().resident_bytes == old.adapter.num_bytes + new.adapter.num_bytes
    assert store.stats().resident_bytes == new.adapter.num_bytes


def test_files_that_are_only_touched_are_the_same_generation(tmp_path: Path) -> None:
    publish(tmp_path, "a")
    store = AdapterStore(tmp_path, AMPLE)
    with store.fetch("a") as before:
        os.utime(tmp_path / "a" / WEIGHTS_FILE, ns=(1, 1))
        with store.fetch("a") as after:
            assert before.adapter.generation == after.adapter.generation


def test_a_removed_expert_is_unknown_while_a_lease_keeps_it(tmp_path: Path) -> None:
    publish(tmp_path, "a")
    store = AdapterStore(tmp_path, AMPLE)
    with store.fetch("a") as lease:
        (tmp_path / "a").rename(tmp_path / ".gone")
        with pytest.raises(ExpertNotFound):
            store.fetch("a")
        assert lease.adapter.tensors


def test_a_broken_package_does_not_stop_the_others(tmp_path: Path) -> None:
    publish(tmp_path, "good")
    (tmp_path / "empty").mkdir()
    store = AdapterStore(tmp_path, AMPLE)
    assert [manifest.name for manifest in store.list()] == ["good"]
    assert store.faults == {"empty": "there is no manifest.json"}
    store.fetch("good").release()
    with pytest.raises(PackageInvalid, match=r"expert 'empty' cannot be used: there is no manifest\.json"):
        store.fetch("empty")


def test_a_package_whose_contents_are_broken_is_a_fault_once_it_was_read(tmp_path: Path) -> None:
    publish(tmp_path, "good")
    write_unchecked(tmp_path / "bad", lora_manifest("bad"), lora_files(float("nan")))
    reader = CountingReader()
    store = AdapterStore(tmp_path, AMPLE, reader)
    for _ in range(2):
        with pytest.raises(PackageInvalid, match="holds a value that is not finite"):
            store.fetch("bad")
    assert reader.names == ["bad"]
    assert [manifest.name for manifest in store.list()] == ["good"]
    assert "not finite" in store.faults["bad"]
    assert store.stats().resident_bytes == 0


def test_a_repaired_package_is_served_again(tmp_path: Path) -> None:
    write_unchecked(tmp_path / "a", lora_manifest("a"), lora_files(float("nan")))
    store = AdapterStore(tmp_path, AMPLE)
    with pytest.raises(PackageInvalid):
        store.fetch("a")
    publish(tmp_path, "a")
    store.fetch("a").release()
    assert store.faults == {}


def test_a_leased_expert_is_not_evicted_for_another(tmp_path: Path) -> None:
    publish(tmp_path, "a", "b", "c")
    reader = CountingReader()
    capacity_bytes = TENSOR_BYTES + TENSOR_FILE_BYTES  # one that stays, and one that is being read
    store = AdapterStore(tmp_path, capacity_bytes, reader)
    with store.fetch("a"):
        for name in ("b", "c", "b", "a"):
            store.fetch(name).release()
    assert reader.names == ["a", "b", "c", "b"]
    assert store.stats().evictions == 2
    assert store.stats().resident_bytes <= capacity_bytes


def test_if_all_memory_is_leased_the_next_fetch_is_refused_and_not_delayed(tmp_path: Path) -> None:
    publish(tmp_path, "a", "b")
    store = AdapterStore(tmp_path, TENSOR_FILE_BYTES)
    with store.fetch("a"), pytest.raises(StoreFull, match="'b' needs"):
        store.fetch("b")
    store.fetch("b").release()
    assert store.faults == {}


def test_a_writer_that_was_killed_is_undone_when_the_store_opens(tmp_path: Path) -> None:
    publish(tmp_path, "a")
    (tmp_path / "a").rename(tmp_path / ".a.previous")
    assert [manifest.name for manifest in AdapterStore(tmp_path, AMPLE).list()] == ["a"]


def test_experts_that_are_replaced_while_others_fetch_are_always_whole(tmp_path: Path) -> None:
    publish(tmp_path, "a", value=0)
    store = AdapterStore(tmp_path, AMPLE)
    is_done = Event()

    def fetch_until_done() -> int:
        num_fetches = 0
        while not is_done.is_set():
            with store.fetch("a") as lease:
                assert len({float(tensor.max()) for tensor in lease.adapter.tensors.values()}) == 1
            assert len(store.list()) == 1
            num_fetches += 1
        return num_fetches

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(fetch_until_done) for _ in range(3)]
        for value in range(10):
            publish(tmp_path, "a", value=value)
        is_done.set()
        assert all(reader.result(10) > 0 for reader in readers)
    assert store.faults == {}
