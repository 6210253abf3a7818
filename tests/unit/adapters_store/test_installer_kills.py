"""kill -9 at random moments, and what is there afterwards."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from adapters_store.installer import Installer
from adapters_store.store import AdapterStore
from tests.unit.adapters_store.test_installer import AMPLE, content, leftovers, packages, value_of

ROOT = Path(__file__).parents[3]
# Imports once, then forks a writer for each line that it reads, and says its number.
NURSERY = """
import os, pathlib, sys
sys.path.insert(0, sys.argv[2])
from adapters_store.installer import Installer
from tests.unit.adapters_store.test_installer import content
versions = [content("a", value) for value in (1.0, 2.0)]
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        installer = Installer(pathlib.Path(sys.argv[1]))
        os.write(1, f"{os.getpid()}\\n".encode())
        while True:
            for version in versions:
                installer.install(version)
            installer.swap("a")
            installer.pin("a")
            installer.alias("b", "a")
            installer.remove("b")
    os.waitpid(child, 0)
    os.write(1, b"gone\\n")
"""


def check_whole(root: Path) -> None:
    """The catalogue serves one of the two versions, and every other process can go on."""
    store = AdapterStore(root, AMPLE)
    assert store.faults == {}
    assert value_of(store, "a") in (1.0, 2.0)
    assert [state.name for state in store.states()] == ["a"]
    Installer(root).install(content("a", 2.0))
    assert value_of(store, "a") == 2.0
    assert leftovers(root) == []
    assert len(packages(root)) <= 2


def kill_at_random(root: Path, kills: int, seed: int) -> None:
    rng = Random(seed)
    Installer(root).install(content("a", 1.0))
    command = [sys.executable, "-c", NURSERY, str(root), str(ROOT)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nursery:
        assert nursery.stdin is not None and nursery.stdout is not None
        for _ in range(kills):
            nursery.stdin.write(b"\n")
            nursery.stdin.flush()
            writer = int(nursery.stdout.readline())
            time.sleep(rng.random() * 0.03)
            os.kill(writer, signal.SIGKILL)
            assert nursery.stdout.readline() == b"gone\n"
            check_whole(root)
        nursery.stdin.close()


def test_a_writer_that_is_killed_leaves_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    kill_at_random(tmp_path, kills=25, seed=9)


@pytest.mark.slow
def test_five_hundred_writers_that_are_killed_leave_the_old_state_or_the_new_one(tmp_path: Path) -> None:
    kill_at_random(tmp_path, kills=500, seed=500)
