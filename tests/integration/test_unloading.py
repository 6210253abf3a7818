"""Experts are unloaded and removed while the real server runs: memory is freed, answers end well or with a 404."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import SecretStr

from adapters_store.installer import Installer, read_content
from adapters_store.manifest import README_FILE
from adapters_store.package import read_package, write_package
from server.app import create_app
from server.expert_views import ps_table
from server.services import Lifecycle, Services, TokenizerDoor, build_services
from server.settings import Settings

EMBEDDED = Path(__file__).resolve().parents[2] / "adapters_store" / "experts"
KEY = "0123456789abcdef"
TIERS = ("package_bytes", "host_bytes", "slot_bytes")


class BetweenFetchAndSubmit:
    """The server's tokenizer, which acts once before it encodes: then a request has its leases and no weights yet."""

    def __init__(self, tokenizer: TokenizerDoor) -> None:
        self._tokenizer = tokenizer
        self.act: Callable[[], object] | None = None

    def encode_chat(self, *args: Any) -> tuple[int, ...]:
        act, self.act = self.act, None
        if act is not None:
            act()
        return self._tokenizer.encode_chat(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class Running:
    def __init__(self, http: httpx.AsyncClient, services: Services, between: BetweenFetchAndSubmit) -> None:
        self.http, self.services, self.between = http, services, between

    async def ask(self, name: str, **fields: object) -> httpx.Response:
        body = {"prompt": "In metres: 3 km", "experts": [name], "max_tokens": 4, "grammar": None, **fields}
        return await self.http.post("/generate", json=body)

    async def memory(self) -> dict[str, dict[str, Any]]:
        """By generation, as the operator sees it."""
        state = (await self.http.get("/admin/state")).json()
        assert ps_table(state).row_count == len(state["experts"])
        return {expert["generation"]: expert for expert in state["experts"]}

    async def until_free(self, generation: str, tiers: Sequence[str]) -> None:
        async with asyncio.timeout(10):
            while (held := (await self.memory()).get(generation)) and any(held[tier] for tier in tiers):
                await asyncio.sleep(0.01)

    async def forget(self, generation: str) -> None:
        """No lowered form anywhere: the next request has to go back to the package."""
        self.services.engine.unload(generation)  # type: ignore[attr-defined]
        await self.until_free(generation, TIERS[1:])


@asynccontextmanager
async def running(root: Path, cache: Path, **settings: Any) -> AsyncIterator[Running]:
    chosen = Settings(experts=root, cache_dir=cache, admin_key=SecretStr(KEY), lowered_cache=0, **settings)
    services = await asyncio.to_thread(build_services, chosen)
    between = BetweenFetchAndSubmit(services.tokenizer)
    lifecycle = Lifecycle(lambda: replace(services, tokenizer=cast(TokenizerDoor, between)))
    await lifecycle.start()
    transport, headers = httpx.ASGITransport(create_app(lifecycle, chosen)), {"authorization": f"Bearer {KEY}"}
    try:
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers, timeout=60
        ) as http:
            yield Running(http, services, between)
    finally:
        await lifecycle.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "experts").mkdir()
    for name in ("units", "ticket-triage"):
        Installer(tmp_path / "experts").install(read_content(EMBEDDED / name))
    return tmp_path / "experts"


def reworded(staging: Path, name: str) -> dict[str, bytes]:
    """Another generation of an embedded expert."""
    manifest = read_package(EMBEDDED / name).manifest
    files = {entry.name: (EMBEDDED / name / entry.name).read_bytes() for entry in manifest.files}
    write_package(staging / name, manifest, {**files, README_FILE: b"# Another"})
    return read_content(staging / name)


async def test_unloading_over_http_frees_host_memory_and_the_slot(root: Path, grammar_cache: Path) -> None:
    async with running(root, grammar_cache) as server:
        for name in ("units", "ticket-triage"):
            assert (await server.ask(name)).status_code == 200
        before = await server.memory()
        units, other = sorted(before.values(), key=lambda expert: str(expert["name"]), reverse=True)
        assert (units["name"], other["name"]) == ("units", "ticket-triage")
        assert units["host_bytes"] == units["slot_bytes"] > 400_000
        slots = server.services.engine.stats().slots_used
        assert (await server.http.post("/admin/experts/units/unload")).json()["was_loaded"]
        await server.until_free(units["generation"], TIERS)
        assert await server.memory() == {other["generation"]: other}
        assert server.services.engine.stats().slots_used == slots - 1
        assert (await server.ask("units")).status_code == 200
        assert (await server.memory())[units["generation"]]["slot_bytes"] == units["slot_bytes"]


async def test_loading_over_http_lowers_so_that_the_next_swap_is_a_copy(root: Path, grammar_cache: Path) -> None:
    async with running(root, grammar_cache) as server:
        loaded = (await server.http.post("/admin/experts/units/load")).json()
        held = (await server.memory())[loaded["generation"]]
        assert (held["slot_bytes"], held["host_bytes"] > 400_000) == (0, True)
        assert loaded["bytes"] == held["host_bytes"]
        await server.ask("units")
        assert list(server.services.engine.stats().swap_seconds) == [("lora", "host")]


async def test_unloading_under_a_running_answer_frees_when_it_ends(root: Path, grammar_cache: Path) -> None:
    async with running(root, grammar_cache) as server:
        generation = server.services.store.state("units").generation
        assert generation is not None
        body = {"prompt": "a", "experts": ["units"], "grammar": None, "stream": True, "max_tokens": 200}
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(server.http.post("/generate", json=body))
            async with asyncio.timeout(10):
                while not (await server.memory()).get(generation, {}).get("slot_bytes"):
                    await asyncio.sleep(0.001)
            await server.http.post("/admin/experts/units/unload")
        assert answer.result().status_code == 200 and "error" not in answer.result().text
        await server.until_free(generation, TIERS)


@pytest.mark.parametrize("was_used", [False, True])
async def test_removed_between_fetch_and_submit_it_answers_or_is_not_found(
    root: Path, grammar_cache: Path, was_used: bool
) -> None:
    """Weights that were just read serve; weights that would have to be read again are gone, and so is the name."""
    async with running(root, grammar_cache) as server:
        generation = server.services.store.state("units").generation
        assert generation is not None
        if was_used:
            assert (await server.ask("units")).status_code == 200
            await server.forget(generation)
        server.between.act = lambda: Installer(root).remove("units")
        answer = await server.ask("units")
        if was_used:
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "expert_not_found")
            assert "'units'" in answer.json()["error"]["message"]
        else:
            assert answer.status_code == 200
        assert (await server.ask("units")).status_code == 404
        await server.until_free(generation, TIERS)


async def test_replaced_between_fetch_and_submit_the_new_one_answers(
    root: Path, grammar_cache: Path, tmp_path: Path
) -> None:
    async with running(root, grammar_cache) as server:
        old = server.services.store.state("units").generation
        assert old is not None and (await server.ask("units")).status_code == 200
        await server.forget(old)
        content = reworded(tmp_path / "staging", "units")
        catalogue = root / ".catalog" / "packages"

        def replace_and_lose_the_standby() -> None:
            Installer(root).install(content)
            shutil.rmtree(catalogue / old)

        server.between.act = replace_and_lose_the_standby
        answer = await server.ask("units")
        assert answer.status_code == 200, answer.text
        new = json.loads((root / ".catalog" / "index.json").read_bytes())["experts"]["units"]["active"]
        assert new != old and (await server.memory())[new]["slot_bytes"] > 0
