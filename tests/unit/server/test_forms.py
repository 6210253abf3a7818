"""Every form of a request passes the same edge: keys, experts, places, time, length, headers, salt."""

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from server.app import create_app
from server.keys import KeyFile
from server.services import Lifecycle
from server.settings import Settings
from tests.asgi import OpenRequest
from tests.fakes import FakeEngine

TURNS = [{"role": "user", "content": "count in sql"}]


def expert(name: str | None) -> dict[str, Any]:
    return {} if name is None else {"model": name}


def adapter(name: str | None) -> dict[str, Any]:
    return {"parameters": {"adapter_id": "auto" if name is None else name}}


FORMS: dict[str, Any] = {
    "/generate": lambda name: {"prompt": "count in sql", "experts": "auto" if name is None else [name]},
    "/v1/chat/completions": lambda name: {"messages": TURNS, **expert(name)},
    "/v1/completions": lambda name: {"prompt": "count in sql", **expert(name)},
    "/v1/responses": lambda name: {"input": "count in sql", **expert(name)},
    "/": lambda name: {"inputs": "count in sql", **adapter(name)},
    "/generate_stream": lambda name: {"inputs": "count in sql", **adapter(name)},
}
"""What asks for an expert by name, or for the router, which answers `sql`."""
TGI = ("/", "/generate_stream")
OTHERS = {
    "/tokenize": {"prompt": "x"},
    "/detokenize": {"tokens": [65]},
    "/v1/embeddings": {"input": "x"},
}
_NUMBERS = count(1)
every_form = pytest.mark.parametrize("path", FORMS)


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def settings(keys: KeyFile) -> Settings:
    keys.add("first", ["generate"])
    return Settings(keys_file=keys.path, max_body_bytes=1 << 16, max_queue=1, max_batch=1)


@pytest.fixture
def locked(lifecycle: Lifecycle, settings: Settings) -> FastAPI:
    return create_app(lifecycle, settings)


@pytest.fixture
async def client(locked: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(locked), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def held(engine: FakeEngine) -> Iterator[FakeEngine]:
    engine.flowing.clear()
    yield engine
    engine.flowing.set()


def bearer(keys: KeyFile, *experts: str, **limits: Any) -> dict[str, str]:
    """A new key that may generate, with these experts alone if there are any."""
    token = keys.add(f"key-{next(_NUMBERS)}", ["generate"], list(experts) or None, **limits)
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", [*FORMS, *OTHERS])
async def test_a_key_is_asked_for_before_the_body_is_read(path: str, client: httpx.AsyncClient) -> None:
    response = await client.post(path, content=b"{", headers={"content-type": "application/json"})
    assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"


@every_form
async def test_an_expert_that_the_key_may_not_use_is_forbidden(
    path: str, client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine
) -> None:
    response = await client.post(path, json=FORMS[path]("sql"), headers=bearer(keys, "free"))
    assert response.status_code == 403 and "sql" in response.text
    assert not engine.requests


@every_form
async def test_the_router_chooses_among_the_keys_experts(
    path: str, client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine
) -> None:
    for allowed, chosen in (("sql", "sql"), ("free", "base")):
        response = await client.post(path, json=FORMS[path](None), headers=bearer(keys, allowed))
        assert (response.status_code, response.headers["x-experts"]) == (200, chosen)
    assert [len(request.experts) for request in engine.requests] == [1, 0]


@every_form
async def test_the_head_says_who_answers_and_what_it_took(path: str, client: httpx.AsyncClient, keys: KeyFile) -> None:
    who = bearer(keys)
    for is_streamed in (False, True):
        body = {**FORMS[path]("sql"), "stream": is_streamed}
        headers = (await client.post(path, json=body, headers=who)).headers
        assert headers["x-experts"] == "sql" and headers["server-timing"].startswith("route;dur=")
        is_whole = not is_streamed and path != "/generate_stream"
        assert ("x-swap-time-ms" in headers, "total;dur=" in headers["server-timing"]) == (is_whole, is_whole)


@every_form
async def test_prompts_are_kept_for_the_key_alone(
    path: str, client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine
) -> None:
    who = [bearer(keys), bearer(keys)]
    salts = {}
    for index in range(2):
        for salt in ({},) if path in TGI else ({}, {"cache_salt": "a"}, {"cache_salt": "b"}):
            await client.post(path, json={**FORMS[path](None), **salt}, headers=who[index])
            salts[index, salt.get("cache_salt")] = engine.requests[-1].salt
    assert len(set(salts.values())) == len(salts) and "" not in salts.values()


@every_form
async def test_the_header_ends_an_answer_in_time(
    path: str, client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine
) -> None:
    await client.post(path, json=FORMS[path](None), headers={**bearer(keys), "x-request-timeout": "7.5"})
    deadline = engine.requests[0].deadline_s
    assert deadline is not None and 7 < deadline <= 7.5


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
async def test_the_bodys_timeout_counts_where_it_is_shorter(
    path: str, client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine
) -> None:
    body = {**FORMS[path](None), "timeout": 3}
    await client.post(path, json=body, headers={**bearer(keys), "x-request-timeout": "7.5"})
    deadline = engine.requests[0].deadline_s
    assert deadline is not None and 2 < deadline <= 3


@pytest.mark.parametrize("path", [*FORMS, *OTHERS])
async def test_every_form_needs_a_place(
    path: str, client: httpx.AsyncClient, locked: FastAPI, keys: KeyFile, held: FakeEngine
) -> None:
    who = bearer(keys, max_concurrent=1)
    async with OpenRequest(locked, "/generate", {"prompt": "x", "stream": True}, who) as request:
        assert await request.status() == 200
        response = await client.post(path, json=FORMS[path](None) if path in FORMS else OTHERS[path], headers=who)
        assert response.status_code == 429 and "retry-after" in response.headers
        assert len(held.requests) == 1


@pytest.mark.parametrize("path", [*FORMS, "/tokenize"])
async def test_a_text_that_cannot_fit_is_refused_before_it_is_tokenized(
    path: str, client: httpx.AsyncClient, keys: KeyFile, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "max_context", 10)
    body = FORMS[path](None) if path in FORMS else {"prompt": "count in sql"}
    response = await client.post(path, json=body, headers=bearer(keys))
    assert response.status_code == (422 if path in TGI else 400) and "9" in response.text
    assert not engine.requests


async def test_the_list_of_models_has_what_the_key_may_use(client: httpx.AsyncClient, keys: KeyFile) -> None:
    who = bearer(keys, "free")
    models = (await client.get("/v1/models", headers=who)).json()["data"]
    assert {model["id"] for model in models} == {"tiny", "auto", "free"}
    assert (await client.get("/v1/models/sql", headers=who)).status_code == 404
    assert (await client.get("/v1/models/free", headers=who)).status_code == 200
