"""Whom the router nearly chose, and what becomes of it."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from adapters_store.store import AdapterStore
from router.decision import ExpertScore, RouteDecision
from server.generation import begin
from server.prefetch import MAX_PENDING, Prefetcher, runners_up
from server.schemas import GenerateRequest
from server.services import Services
from tests.fakes import FakeEngine, write_expert


def decision(scores: Mapping[str, float], *chosen: str) -> RouteDecision:
    return RouteDecision(tuple(ExpertScore(name, 1.0) for name in chosen), "keywords", "", 1.0, scores)


def drained(prefetcher: Prefetcher) -> None:
    prefetcher._thread.shutdown(wait=True)


@pytest.fixture
def store(experts_dir: Path) -> AdapterStore:
    return AdapterStore(experts_dir, 1 << 20)


def test_the_two_best_that_were_not_chosen_are_wished_for() -> None:
    scores = {"a": 0.9, "b": 0.2, "c": 0.5, "d": 0.4, "e": 0.0}
    assert runners_up(decision(scores, "a")) == ("c", "d")
    assert runners_up(decision({"a": 1.0, "b": 0.0}, "a")) == ()
    assert runners_up(decision({"b": 0.5, "a": 0.5})) == ("a", "b")


def test_the_engine_gets_what_fits_its_base_and_no_lease_stays(store: AdapterStore, engine: FakeEngine) -> None:
    prefetcher = Prefetcher(store, engine.wish, lambda adapter: adapter.manifest.base == engine.fingerprint)
    prefetcher.follow(decision({"sql": 0.9, "foreign": 0.8}))
    prefetcher.follow(decision({"gone": 0.9, "json": 0.8}))
    drained(prefetcher)
    assert sorted(engine.wishes) == ["json", "sql"]
    capacity = store.stats().resident_bytes
    assert capacity > 0


def test_wishes_do_not_pile_up(tmp_path: Path, engine: FakeEngine) -> None:
    names = [f"e{number}" for number in range(20)]
    for name in names:
        write_expert(tmp_path, name)
    prefetcher = Prefetcher(AdapterStore(tmp_path, 1 << 20), engine.wish, lambda _: True)
    prefetcher._thread.submit(lambda: None)
    for first, second in zip(names[::2], names[1::2], strict=True):
        prefetcher.follow(decision({first: 0.9, second: 0.8}))
        assert len(prefetcher._pending) <= MAX_PENDING
    drained(prefetcher)
    assert 2 <= len(engine.wishes) <= 20 and not prefetcher._pending


async def test_a_routed_request_wishes_for_its_runners_up(services: Services, engine: FakeEngine) -> None:
    prefetcher = Prefetcher(services.store, engine.wish, lambda _: True)
    with_prefetcher = replace(services, prefetcher=prefetcher)
    both = GenerateRequest(prompt="In SQL, as JSON: count the singers")
    running = await begin(with_prefetcher, both)
    chosen = {use.adapter.manifest.name for use in running.experts}
    running.close()
    await asyncio.to_thread(drained, prefetcher)
    assert set(engine.wishes) == set(runners_up(running.decision)) and chosen.isdisjoint(engine.wishes)
