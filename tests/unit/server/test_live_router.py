"""The running server's router follows the experts and the training on disk."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters_store.manifest import Manifest
from router.decision import RouteQuery
from router.encoder import load_encoder
from router.errors import ModelInvalid
from router.model import DEFAULT, SETTINGS_FILE
from server.live_router import REFRESH_SECONDS, LiveRouter, build_router
from server.settings import Settings
from tests.unit.router.manifests import manifest

PROMPT = RouteQuery("please sing the song of songs")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEFAULT, tmp_path / "router"))


def names(router: LiveRouter) -> list[str]:
    return [expert.name for expert in router.route(PROMPT).experts]


def test_an_expert_that_is_added_is_routable_without_a_restart(folder: Path) -> None:
    known: list[Manifest] = []
    clock = Clock()
    router = LiveRouter(lambda: known, folder, load_encoder(), clock=clock)
    known.append(manifest("singer", cues=("sing the song",)))
    assert names(router) == []
    clock.now += REFRESH_SECONDS
    assert names(router) == ["singer"]


def test_a_new_training_takes_effect_and_a_broken_one_changes_nothing(folder: Path) -> None:
    clock = Clock()
    router = LiveRouter(lambda: [], folder, load_encoder(), clock=clock)
    before = router.current().version
    settings = folder / SETTINGS_FILE
    good = settings.read_text()
    settings.write_text("{")
    clock.now += REFRESH_SECONDS
    assert router.current().version == before
    settings.write_text(good.replace('"also": 0.5', '"also": 0.75'))
    clock.now += REFRESH_SECONDS
    assert router.current().version != before


def test_the_disk_is_not_asked_for_every_prompt(folder: Path) -> None:
    asked: list[int] = []

    def manifests() -> list[Manifest]:
        asked.append(1)
        return []

    router = LiveRouter(manifests, folder, load_encoder(), clock=Clock())
    for _ in range(10):
        router.route(PROMPT)
    assert len(asked) == 1


def test_a_server_does_not_start_with_a_router_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid):
        build_router(Settings(router=tmp_path, router_parser="none"), lambda: [])
