"""The catalogue and the store over it, in any order of events, crashes at any write included."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from adapters_store.cache import Lease
from adapters_store.errors import ExpertNotFound, StoreError, StoreFull
from adapters_store.installer import Installer
from adapters_store.manifest import WEIGHTS_FILE
from adapters_store.store import AdapterStore
from tests.unit.adapters_store.packages import lora_files
from tests.unit.adapters_store.test_installer import content, packages

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from([1.0, 2.0, 3.0])
CONTENT = {(name, value): content(name, value) for name in "abc" for value in (1.0, 2.0, 3.0)}


class Killed(BaseException):
    """What a process that is killed does not catch."""


class Countdown:
    """Lets so many system calls through that change the disk, and no further one."""

    def __init__(self, calls: int) -> None:
        self._left = calls

    def before(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **options: object) -> object:
            self._left -= 1
            if self._left < 0:
                raise Killed
            return call(*args, **options)

        return counted


def killed_after(calls: int, act: Callable[[], object]) -> bool:
    """Was it? Where it was, nothing tidies up: every later change of the disk is refused too."""
    countdown = Countdown(calls)
    names = ("rename", "replace", "fsync", "mkdir", "rmdir", "unlink")
    patches = [mock.patch.object(os, name, countdown.before(getattr(os, name))) for name in names]
    try:
        for patch in patches:
            patch.start()
        act()
    except Killed:
        return True
    finally:
        for patch in patches:
            patch.stop()
    return False


class CatalogueMachine(RuleBasedStateMachine):
    """Beside it runs a dictionary of what must be served: (active, standby) by name."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = self.opened()
        self.expected: dict[str, tuple[float, float | None]] = {}
        self.held: list[Lease] = []

    def opened(self) -> AdapterStore:
        return AdapterStore(self.root, 4 * len(lora_files()[WEIGHTS_FILE]))

    def installed(self, name: str, value: float) -> tuple[float, float | None]:
        active, standby = self.expected.get(name, (None, None))
        return (value, standby) if active == value else (value, active)

    @rule(name=NAMES, value=VALUES)
    def install(self, name: str, value: float) -> None:
        Installer(self.root).install(CONTENT[name, value])
        self.expected[name] = self.installed(name, value)

    @rule(name=NAMES)
    def swap(self, name: str) -> None:
        active, standby = self.expected.get(name, (0.0, None))
        try:
            Installer(self.root).swap(name)
        except StoreError:
            assert standby is None
        else:
            assert standby is not None
            self.expected[name] = (standby, active)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        try:
            Installer(self.root).remove(name)
        except ExpertNotFound:
            assert name not in self.expected
        else:
            del self.expected[name]

    @rule(name=NAMES, value=VALUES, calls=st.integers(0, 30))
    def is_killed_installing(self, name: str, value: float, calls: int) -> None:
        was_killed = killed_after(calls, lambda: Installer(self.root).install(CONTENT[name, value]))
        states = [self.installed(name, value)] + ([self.expected.get(name)] if was_killed else [])
        self.settle(name, states)

    @precondition(lambda self: self.expected)
    @rule(data=st.data(), calls=st.integers(0, 12))
    def is_killed_removing(self, data: st.DataObject, calls: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.expected)))
        was_killed = killed_after(calls, lambda: Installer(self.root).remove(name))
        self.settle(name, [None, self.expected[name]] if was_killed else [None])

    def settle(self, name: str, states: list[tuple[float, float | None] | None]) -> None:
        """One of the states is there; which one, a new process sees."""
        self.store, self.held = self.opened(), []
        found = self.served(name)
        matching = [state for state in states if (state[0] if state else None) == found]
        assert matching, f"{found} is served, not one of {states}"
        if matching[0] is None:
            self.expected.pop(name, None)
        else:
            self.expected[name] = matching[0]

    def served(self, name: str) -> float | None:
        try:
            with self.store.fetch(name) as lease:
                return float(next(iter(lease.adapter.tensors.values())).max())
        except ExpertNotFound:
            return None

    @rule(target=leases, name=NAMES)
    def lease(self, name: str) -> tuple[Lease, float] | None:
        try:
            lease = self.store.fetch(name)
        except ExpertNotFound:
            assert name not in self.expected
            return None
        except StoreFull:
            return None
        self.held.append(lease)
        return lease, self.expected[name][0]

    @rule(held=consumes(leases))
    def release(self, held: tuple[Lease, float] | None) -> None:
        """A lease has kept the weights that it began with."""
        if held is not None:
            lease, value = held
            assert all(float(tensor.max()) == value for tensor in lease.adapter.tensors.values())
            lease.release()
            self.held = [other for other in self.held if other is not lease]

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        self.store.unload(name)

    @invariant()
    def what_is_listed_is_what_must_be_there(self) -> None:
        assert self.store.faults == {}
        assert {manifest.name for manifest in self.store.list()} == self.expected.keys()

    @invariant()
    def memory_is_bounded_and_covers_what_is_leased(self) -> None:
        held = {id(lease.adapter): lease.adapter.num_bytes for lease in self.held}
        assert sum(held.values()) <= self.store.stats().resident_bytes <= 4 * len(lora_files()[WEIGHTS_FILE])

    def teardown(self) -> None:
        for name, (value, standby) in self.expected.items():
            fresh = AdapterStore(self.root, 1 << 20)
            with fresh.fetch(name) as lease:
                assert float(next(iter(lease.adapter.tensors.values())).max()) == value
            if standby is not None:
                Installer(self.root).swap(name)
        Installer(self.root).install(CONTENT["a", 1.0])
        referred = {g for r in AdapterStore(self.root, 0)._catalog.index().experts.values() for g in r if g}
        assert packages(self.root) >= referred
        shutil.rmtree(self.root)


CatalogueMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestCatalogueMachine = CatalogueMachine.TestCase


@pytest.mark.slow
def test_the_catalogue_holds_for_thousands_of_steps() -> None:
    run_state_machine_as_test(
        CatalogueMachine, settings=settings(max_examples=150, stateful_step_count=50, deadline=None)
    )
