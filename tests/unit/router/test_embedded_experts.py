"""The embedded experts' hints over the prompts that their experts are made for, and over small talk."""

from collections.abc import Iterable
from dataclasses import replace
from random import Random

import pytest

from adapters_store.manifest import CONFIG_FILE, WEIGHTS_FILE, FileEntry, parse_manifest
from router.decision import RouteQuery
from router.pipeline import Router
from tests.unit.router.hints import HINTS
from tests.unit.router.manifests import manifest
from tests.unit.router.prompts import EVERYDAY
from training.smalltalk import draw_exchange
from training.tasks import TASKS
from training.words import Words

SEED = 11
PER_TASK = 30


def choice(router: Router, text: str) -> str:
    decision = router.route(RouteQuery(text))
    return decision.experts[0].name if decision.experts else "none"


def share(router: Router, expected: str, prompts: Iterable[str]) -> float:
    right = [choice(router, prompt) == expected for prompt in prompts]
    return sum(right) / len(right)


def small_talk(count: int) -> list[str]:
    words = Words(Random(SEED), held_out=True)
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw_exchange(words).prompt] = None
    return list(found)


def test_every_task_has_hints() -> None:
    assert HINTS.keys() == TASKS.keys()


@pytest.mark.parametrize("name", HINTS)
def test_a_manifest_takes_the_hints(name: str) -> None:
    files = tuple(FileEntry(file, 1, "0" * 64) for file in (CONFIG_FILE, WEIGHTS_FILE))
    complete = replace(manifest(name), routing=HINTS[name], files=files)
    assert parse_manifest(complete.to_json()) == complete


@pytest.mark.parametrize(("rephrased", "floor"), [(False, 0.9), (True, 0.96)])
def test_unseen_prompts_reach_their_experts(router: Router, rephrased: bool, floor: float) -> None:
    shares = {}
    for name, draw in TASKS.items():
        words = Words(Random(SEED), held_out=True, rephrased=rephrased)
        shares[name] = share(router, name, [draw(words).prompt for _ in range(PER_TASK)])
    assert sum(shares.values()) / len(shares) >= floor, shares
    assert min(shares.values()) >= 0.8, shares


@pytest.mark.parametrize("prompts", [small_talk(100), EVERYDAY], ids=["small talk", "everyday"])
def test_what_is_no_task_stays_with_the_base(router: Router, prompts: Iterable[str]) -> None:
    assert share(router, "none", prompts) >= 0.95
