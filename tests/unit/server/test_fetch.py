"""A lease belongs to somebody: a request that is gone when its expert comes holds nothing."""

import asyncio
import threading
from pathlib import Path

import pytest

from adapters_store.package import HostAdapter, read_package
from adapters_store.store import AdapterStore
from server.generation import fetch
from tests.fakes import write_expert


class SlowReader:
    """Reads a package when it is told to."""

    def __init__(self) -> None:
        self.started, self.go = threading.Event(), threading.Event()

    def __call__(self, directory: Path) -> HostAdapter:
        self.started.set()
        assert self.go.wait(5)
        return read_package(directory)


async def test_a_request_cancelled_while_its_expert_loads_leaves_no_lease(tmp_path: Path) -> None:
    write_expert(tmp_path, "sql")
    write_expert(tmp_path, "other")
    read = SlowReader()
    capacity = AdapterStore(tmp_path, 1 << 30).get("sql").tensor_bytes
    store = AdapterStore(tmp_path, capacity, read)
    waiting = asyncio.ensure_future(fetch(store, "sql"))
    await asyncio.to_thread(read.started.wait, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    read.go.set()
    for _ in range(500):
        if store.stats().loads == 1:
            break
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    # There is room for one expert: a lease that is still held would make this a StoreFull.
    lease = await fetch(store, "other")
    assert lease.adapter.manifest.name == "other"
    lease.release()
