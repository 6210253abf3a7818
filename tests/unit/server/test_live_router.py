"""Catalogue and training change while the server runs, and the router knows it."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters_store.errors import ExpertNotFound
from adapters_store.installer import Installer, read_content
from adapters_store.manifest import Manifest
from router.decision import RouteQuery
from router.encoder import load_encoder
from router.errors import ModelInvalid
from router.model import DEFAULT, SETTINGS_FILE
from server.generation import answer, begin
from server.live_router import REFRESH_SECONDS, LiveRouter, Trained, trained_router
from server.replies import reply_of
from server.schemas import GenerateRequest
from server.services import Services
from server.settings import Settings
from tests.fakes import FINGERPRINT, OTHER_FINGERPRINT, write_expert


async def used(services: Services, prompt: str, **fields: object) -> list[str]:
    """The names of the experts that answered."""
    running = await begin(services, GenerateRequest.model_validate({"prompt": prompt, **fields}))
    *_, answers = [parts async for parts in answer(running)]
    running.close()
    assert isinstance(answers, tuple)
    reply = reply_of(running, answers)
    return [expert.name for expert in reply.experts]


def install(root: Path, staging: Path, name: str, cue: str, base: str = FINGERPRINT) -> None:
    write_expert(staging, name, cues=(cue,), base=base)
    Installer(root).install(read_content(staging / name))


async def test_an_expert_is_routed_to_from_its_installation_to_its_removal(
    services: Services, experts_dir: Path, tmp_path: Path
) -> None:
    assert await used(services, "write me a sonnet") == []
    install(experts_dir, tmp_path / "new", "poet", "a sonnet")
    assert await used(services, "write me a sonnet") == ["poet"]
    install(experts_dir, tmp_path / "new", "poet", "a limerick")
    assert await used(services, "write me a sonnet") == []
    assert await used(services, "write me a limerick") == ["poet"]
    Installer(experts_dir).remove("poet")
    assert await used(services, "write me a limerick") == []
    with pytest.raises(ExpertNotFound):
        await used(services, "hi", experts=["poet"])


async def test_experts_of_another_base_are_not_routed_to(services: Services, experts_dir: Path, tmp_path: Path) -> None:
    install(experts_dir, tmp_path / "new", "poet", "a sonnet", OTHER_FINGERPRINT)
    assert await used(services, "write me a sonnet") == []


async def test_a_change_is_read_once_however_many_wait_for_it(
    services: Services, experts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = LiveRouter(services.store, FINGERPRINT)
    reads: list[tuple[Manifest, ...]] = []
    read = services.store.list

    def counted() -> tuple[Manifest, ...]:
        reads.append(read())
        return reads[-1]

    monkeypatch.setattr(services.store, "list", counted)
    install(experts_dir, tmp_path / "new", "poet", "a sonnet")
    await asyncio.gather(*(router.refresh() for _ in range(20)))
    assert len(reads) == 1


async def test_an_alias_answers_as_its_expert_and_not_beside_it(services: Services, experts_dir: Path) -> None:
    Installer(experts_dir).alias("database", "sql")
    assert await used(services, "hi", experts=["database"]) == ["sql"]
    with pytest.raises(Exception, match="'database' is named twice, by itself or by its aliases"):
        await used(services, "hi", experts=["sql", "database"])
    with services.store.fetch("sql"):
        [resident] = services.store.residents()
        assert resident.leases == 1  # the refused request has given its leases back


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_plain_directory_is_routable_without_a_restart(services: Services, experts_dir: Path) -> None:
    clock = Clock()
    router = LiveRouter(services.store, FINGERPRINT, clock=clock)
    write_expert(experts_dir, "singer", cues=("sing the song",))
    await router.refresh()
    assert router.route(RouteQuery("please sing the song of songs")).experts == ()
    clock.now += REFRESH_SECONDS
    await router.refresh()
    assert [e.name for e in router.route(RouteQuery("please sing the song of songs")).experts] == ["singer"]


async def test_a_new_training_takes_effect_and_a_broken_one_changes_nothing(services: Services, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(DEFAULT, tmp_path / "router"))
    clock = Clock()
    router = LiveRouter(services.store, FINGERPRINT, Trained(folder, load_encoder()), clock)
    before = router.current.version
    settings = folder / SETTINGS_FILE
    good = settings.read_text()
    settings.write_text("{")
    clock.now += REFRESH_SECONDS
    await router.refresh()
    assert router.current.version == before
    trained = json.loads(good)
    trained["thresholds"]["also"] += 0.1
    settings.write_text(json.dumps(trained))
    clock.now += REFRESH_SECONDS
    await router.refresh()
    assert router.current.version != before


def test_a_server_does_not_start_with_a_router_that_does_not_fit(services: Services, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid):
        LiveRouter(services.store, FINGERPRINT, trained_router(Settings(router=tmp_path, router_parser="none")))
