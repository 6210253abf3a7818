"""The operator's endpoints: who may ask, what they tell, and what they change."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from adapters_store.installer import Installer, read_content
from adapters_store.store import AdapterStore
from engine.tier_stats import Holding
from server.app import create_app
from server.expert_views import memory_data
from server.services import Lifecycle, Services
from server.settings import Settings, SettingsInvalid, settings_with
from tests.fakes import LOWERED_BYTES, FakeEngine, write_expert

KEY = "0123456789abcdef"
PATHS = [
    ("GET", "/admin/experts"),
    ("GET", "/admin/state"),
    ("POST", "/admin/experts/sql/load"),
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/v1/unload_lora_adapter"),
]


@pytest.fixture
def settings() -> Settings:
    return Settings(admin_key=SecretStr(KEY))


@pytest.fixture
async def admin(lifecycle: Lifecycle, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    transport, headers = httpx.ASGITransport(create_app(lifecycle, settings)), {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


async def code(client: httpx.AsyncClient, path: str, **body: object) -> tuple[int, str]:
    response = await client.post(path, json=body)
    return response.status_code, response.json()["error"]["code"]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_a_key_in_the_settings_there_is_nothing(lifecycle: Lifecycle, method: str, path: str) -> None:
    transport, headers = httpx.ASGITransport(create_app(lifecycle, Settings())), {"authorization": "Bearer "}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        assert (await client.request(method, path)).status_code == 404


@pytest.mark.parametrize("offered", [None, "", "Bearer", f"Bearer {KEY}x", f"Bearer {KEY[:-1]}", KEY, "Bearer \xe9"])
@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_the_key_nobody_learns_anything(
    client: httpx.AsyncClient, services: Services, method: str, path: str, offered: str | None
) -> None:
    headers = [] if offered is None else [(b"authorization", offered.encode("latin-1"))]
    response = await client.request(method, path, headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"
    assert services.store.residents() == ()


async def test_a_key_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match=r"security\.admin_key"):
        settings_with(admin_key="short")
    assert KEY not in repr(Settings(admin_key=SecretStr(KEY)))


async def test_the_catalogue_is_told_with_what_is_broken_and_without_paths(
    admin: httpx.AsyncClient, experts_dir: Path
) -> None:
    (experts_dir / "free" / "manifest.json").write_text("{}")
    answer = await admin.get("/admin/experts")
    told = {expert["name"]: expert for expert in answer.json()["experts"]}
    assert (told["free"]["code"], told["sql"]["kind"], told["sql"]["pinned"]) == ("manifest_invalid", "lora", False)
    assert str(experts_dir) not in answer.text


async def test_an_expert_is_loaded_held_and_unloaded_by_name(admin: httpx.AsyncClient) -> None:
    loaded = (await admin.post("/admin/experts/sql/load")).json()
    [resident] = (await admin.get("/admin/state")).json()["host"]["residents"]
    assert (resident["name"], resident["generation"]) == (loaded["name"], loaded["generation"])
    assert (resident["leases"], resident["retired"]) == (0, False)
    assert loaded["bytes"] == LOWERED_BYTES
    assert (await admin.post("/admin/experts/sql/unload")).json() == {"name": "sql", "was_loaded": True}
    state = (await admin.get("/admin/state")).json()
    assert (state["host"]["residents"], state["host"]["resident_bytes"]) == ([], 0)
    assert (await admin.post("/admin/experts/sql/unload")).json()["was_loaded"] is False


async def test_memory_is_told_by_generation_over_all_tiers(services: Services) -> None:
    with services.store.fetch("sql") as lease:
        generation = lease.adapter.generation
        holdings = {"host": (Holding(generation, "sql", 70),), "device": (Holding("older", "sql", 60),)}
        told = memory_data(services.store.residents(), holdings)
    package = lease.adapter.num_bytes
    both = {"name": "sql", "retired": False}
    assert sorted(told, key=lambda entry: -entry["leases"]) == [
        {**both, "generation": generation, "package_bytes": package, "host_bytes": 70, "slot_bytes": 0, "leases": 1},
        {**both, "generation": "older", "package_bytes": 0, "host_bytes": 0, "slot_bytes": 60, "leases": 0},
    ]


async def test_the_tiers_of_the_engine_are_told(admin: httpx.AsyncClient) -> None:
    tiers = (await admin.get("/admin/state")).json()["tiers"]
    assert tiers["device"] == {"residents": 2, "bytes": 200, "hits": 3, "misses": 2, "evictions": 1}


async def test_the_device_is_told_too(admin: httpx.AsyncClient, engine: FakeEngine) -> None:
    await admin.post("/generate", json={"prompt": "count in SQL"})
    device = (await admin.get("/admin/state")).json()["device"]
    assert (device["kind"], device["resident"], device["slots"]) == ("cpu", engine.resident, 4)


async def test_vllms_endpoints_load_and_unload_names_of_the_catalogue(
    admin: httpx.AsyncClient, services: Services
) -> None:
    for extra in ({}, {"lora_path": "sql"}, {"lora_path": "", "load_inplace": True}):
        added = await admin.post("/v1/load_lora_adapter", json={"lora_name": "sql", **extra})
        assert (added.status_code, added.text) == (200, "Success: LoRA adapter 'sql' added successfully.")
    assert [resident.name for resident in services.store.residents()] == ["sql"]
    removed = await admin.post("/v1/unload_lora_adapter", json={"lora_name": "sql"})
    assert (removed.status_code, removed.text) == (200, "Success: LoRA adapter 'sql' removed successfully.")
    assert services.store.residents() == ()


@pytest.mark.parametrize("path", ["/srv/adapters/sql", "../sql", "someone/adapter", "https://example.org/x", "json"])
async def test_no_path_and_no_address_comes_from_a_client(admin: httpx.AsyncClient, path: str) -> None:
    assert await code(admin, "/v1/load_lora_adapter", lora_name="sql", lora_path=path) == (400, "client_path")


@pytest.mark.parametrize("name", ["poet", "..%2Fsql", ".catalog", "%00", "x" * 80])
async def test_a_name_that_is_not_there_is_not_found(admin: httpx.AsyncClient, name: str) -> None:
    for action in ("load", "unload", "pin", "swap"):
        assert (await admin.post(f"/admin/experts/{name}/{action}")).status_code == 404


async def test_what_cannot_be_done_is_refused_with_its_code(admin: httpx.AsyncClient) -> None:
    assert await code(admin, "/admin/experts/foreign/load") == (400, "expert_incompatible")
    assert await code(admin, "/admin/experts/sql/swap") == (409, "no_standby")
    assert (await admin.post("/admin/experts/sql/explode")).status_code == 400


async def test_a_pin_is_kept_in_the_catalogue(admin: httpx.AsyncClient, experts_dir: Path) -> None:
    assert (await admin.post("/admin/experts/sql/pin")).json() == {"name": "sql", "pinned": True}
    assert AdapterStore(experts_dir, 0).state("sql").is_pinned
    await admin.post("/admin/experts/sql/unpin")
    assert not AdapterStore(experts_dir, 0).state("sql").is_pinned


async def test_a_swap_lets_the_standby_serve_if_what_serves_is_as_expected(
    admin: httpx.AsyncClient, experts_dir: Path, tmp_path: Path
) -> None:
    first = AdapterStore(experts_dir, 0).state("sql").generation
    write_expert(tmp_path / "new", "sql", cues=("other words",))
    second = Installer(experts_dir).install(read_content(tmp_path / "new" / "sql")).generation
    swap = "/admin/experts/sql/swap?expected="
    assert (await admin.post(swap + str(first))).status_code == 409
    assert (await admin.post(swap + second)).json() == {"name": "sql", "generation": first, "previous": second}
    assert (await admin.post("/admin/experts/sql/load")).json()["generation"] == first


async def test_an_experts_root_that_cannot_be_changed_is_named(admin: httpx.AsyncClient, experts_dir: Path) -> None:
    (experts_dir / ".catalog").mkdir()
    (experts_dir / ".catalog" / "packages").write_text("in the way")
    assert await code(admin, "/admin/experts/sql/pin") == (503, "store_read_only")
