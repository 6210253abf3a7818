"""Who may call what: every route says so, a key opens its scopes alone, and nothing hangs on a path or a host."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import iter_route_contexts

from server.app import create_app
from server.keys import KeyFile
from server.security import check_bind, everybody, may_administer, undeclared
from server.services import Lifecycle
from server.settings import Settings, SettingsInvalid
from tests.fakes import FakeEngine

OPEN = {"/health", "/ready"}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    keys = KeyFile(tmp_path / "keys.json")
    keys.add("first", ["generate"])
    return keys


@pytest.fixture
def locked_settings(keys: KeyFile) -> Settings:
    return Settings(keys_file=keys.path, allowed_hosts=("*",))


@pytest.fixture
def locked(lifecycle: Lifecycle, locked_settings: Settings) -> FastAPI:
    return create_app(lifecycle, locked_settings)


@pytest.fixture
async def client(locked: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(locked), base_url="http://localhost") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """(method, path) of every route there is, in the description or not, with any word for a parameter."""
    found = []
    for route in iter_route_contexts(app.routes):
        path = "/".join("x" if part.startswith("{") else part for part in str(route.path).split("/"))
        found += [(method, path) for method in sorted(route.methods or ())]
    return found


def test_every_route_declares_who_may_call_it(locked: FastAPI) -> None:
    assert undeclared(locked.routes) == []
    assert len(routes_of(locked)) >= 6


def test_a_route_without_a_policy_or_with_two_is_found() -> None:
    app = FastAPI(openapi_url=None)
    nested = APIRouter()
    nested.add_api_route("/nested", lambda: 1)
    router = APIRouter(prefix="/sub")
    router.include_router(nested)
    app.include_router(router)
    app.add_api_route("/none", lambda: 1)
    app.add_api_route("/two", lambda: 1, dependencies=[Depends(everybody), Depends(may_administer)])
    app.add_api_route("/one", lambda: 1, dependencies=[Depends(everybody)])
    app.mount("/mounted", FastAPI())
    assert set(undeclared(app.routes)) == {"/sub/nested", "/none", "/two", "/mounted"}


async def test_vllm_open_routes_nothing_but_probes_answers_without_a_key(
    client: httpx.AsyncClient, locked: FastAPI
) -> None:
    """vLLM's security notes: /tokenize, /invocations and /pause are open although a key is set."""
    for method, path in routes_of(locked):
        response = await client.request(method, path, json={"prompt": "x"})
        assert response.status_code == (200 if path in OPEN else 401), (method, path)


@pytest.mark.parametrize("host", ["a/health?x=", "a/health#", "localhost/ready?", "a\\health", "", "a, b"])
async def test_cve_2026_48710_and_48746_a_forged_host_opens_no_route(
    host: str, client: httpx.AsyncClient, locked: FastAPI
) -> None:
    """BadHost: a Host header changed the path that an API-key middleware saw (Starlette < 1.0.1, vLLM < 0.22)."""
    for method, path in routes_of(locked):
        if path not in OPEN:
            response = await client.request(method, path, json={"prompt": "x"}, headers={"host": host})
            assert response.status_code == 401, (method, path)


@pytest.mark.parametrize(
    "path", ["//generate", "/health/../generate", "/health%2f..%2fgenerate", "/generate/", "/GENERATE"]
)
async def test_no_spelling_of_a_path_opens_a_route(path: str, client: httpx.AsyncClient, engine: FakeEngine) -> None:
    response = await client.post(path, json={"prompt": "x"})
    assert response.status_code in (307, 401, 404)
    assert not engine.requests


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 2000, b'{"prompt": 1}', b'{"prompt": "x"}'])
async def test_a_key_is_asked_for_before_a_body_is_looked_at(content: bytes, client: httpx.AsyncClient) -> None:
    response = await client.post("/generate", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 401


async def test_both_headers_carry_a_key(client: httpx.AsyncClient, keys: KeyFile) -> None:
    token = keys.add("ci", ["generate"])
    for headers in (bearer(token), {"authorization": f"bearer  {token} "}, {"x-api-key": token}):
        assert (await client.post("/generate", json={"prompt": "x"}, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic eDp5"},
        {"authorization": "Bearer hs_000000000000_" + "A" * 43},
        {"x-api-key": "x" * 5000},
        {"x-api-key": "é"},
    ],
)
async def test_cve_2025_59425_a_bad_key_is_an_openai_401(headers: dict[str, str], client: httpx.AsyncClient) -> None:
    """vLLM compared keys as strings; here hashes are, in constant time, also where the id is unknown."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    response = await client.post("/generate", json={"prompt": "x"}, headers=raw)
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_scope_opens_its_routes_and_no_others(client: httpx.AsyncClient, keys: KeyFile) -> None:
    generate, metrics, admin = (keys.add(scope, [scope]) for scope in ("generate", "metrics", "admin"))

    async def status(path: str, token: str) -> int:
        return (await client.get(path, headers=bearer(token))).status_code

    assert [await status("/experts", token) for token in (generate, metrics, admin)] == [200, 403, 200]
    assert [await status("/metrics", token) for token in (generate, metrics, admin)] == [403, 200, 200]


async def test_nobody_administers_a_server_without_keys(app: FastAPI) -> None:
    app.add_api_route("/admin/x", lambda: 1, dependencies=[Depends(may_administer)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.get("/admin/x")
    assert (response.status_code, response.json()["error"]["code"]) == (403, "scope_missing")


async def test_a_key_reaches_its_experts_alone(client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine) -> None:
    headers = bearer(keys.add("limited", ["generate"], ["json"]))
    named = await client.post("/generate", json={"prompt": "x", "experts": ["sql"]}, headers=headers)
    mixed = await client.post("/generate", json={"prompt": "x", "experts": ["json", "sql"]}, headers=headers)
    assert {named.status_code, mixed.status_code} == {403}
    assert named.json()["error"]["code"] == "expert_forbidden"
    assert not engine.requests
    routed = (await client.post("/generate", json={"prompt": "count in SQL"}, headers=headers)).json()
    assert (routed["text"], routed["experts"]) == ("base: count in SQL", [])
    assert set(routed["routing"]["scores"]) <= {"json"} and "sql" not in routed["routing"]["reason"]
    allowed = (await client.post("/generate", json={"prompt": "say it as JSON"}, headers=headers)).json()
    assert [expert["name"] for expert in allowed["experts"]] == ["json"]
    listing = (await client.get("/experts", headers=headers)).json()
    assert [card["name"] for card in listing["experts"]] == ["json"]


async def test_cve_2025_46570_keys_do_not_share_the_prefix_cache(
    client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine
) -> None:
    """How fast a prefix comes tells one tenant what another asked."""
    for name in ("a", "b"):
        await client.post("/generate", json={"prompt": "x"}, headers=bearer(keys.add(name, ["generate"])))
    assert len({request.salt for request in engine.requests}) == 2
    assert all(request.salt for request in engine.requests)


async def test_a_broken_file_of_keys_opens_nothing_and_says_nothing(client: httpx.AsyncClient, keys: KeyFile) -> None:
    token = keys.add("ci", ["generate"])
    keys.path.write_text("{")
    response = await client.post("/generate", json={"prompt": "x"}, headers=bearer(token))
    assert response.status_code == 500
    assert str(keys.path) not in response.text


def test_an_app_with_useless_keys_is_not_made(lifecycle: Lifecycle, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"nothing\.json"):
        create_app(lifecycle, Settings(keys_file=tmp_path / "nothing.json"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org", ""])
def test_listening_where_others_can_come_needs_keys_or_a_word(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="--insecure-bind"):
        check_bind(Settings(host=host))
    check_bind(Settings(host=host, insecure_bind=True))
    check_bind(Settings(host=host, keys_file=tmp_path / "keys.json"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_none(host: str) -> None:
    check_bind(Settings(host=host))


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "a/health?x=", "localhost:x", "localhost:80:80", ""]
)
async def test_a_name_that_was_made_to_point_here_is_refused_on_loopback(host: str, app: FastAPI) -> None:
    """DNS rebinding, the way into local servers from a web page."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.get("/health", headers={"host": host})
    assert (response.status_code, response.json()["error"]["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"])
async def test_loopbacks_names_are_answered(host: str, app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get("/health", headers={"host": host})).status_code == 200


async def test_no_web_page_may_call_unless_its_origin_is_named(lifecycle: Lifecycle) -> None:
    headers = {"origin": "https://app.example", "access-control-request-method": "POST"}
    for origins, expected in (((), None), (("https://app.example",), "https://app.example")):
        app = create_app(lifecycle, Settings(cors_origins=origins))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            preflight = await client.options("/generate", headers=headers)
            assert preflight.headers.get("access-control-allow-origin") == expected
            assert preflight.headers.get("access-control-allow-credentials") is None


def test_there_are_no_pages_that_load_scripts_from_elsewhere(locked: FastAPI) -> None:
    assert not {"/docs", "/redoc"} & {path for _, path in routes_of(locked)}
