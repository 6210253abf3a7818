"""Ids, the bound on bodies, and the answer to what nobody caught."""

import asyncio
import logging
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from server.log import LOGGER_NAME, fields_of
from server.metrics import Metrics
from server.middleware import Edge, Limits


@pytest.mark.parametrize("offered", ["abc", "A-1.b_2", "x" * 64])
async def test_a_harmless_request_id_is_echoed(offered: str, client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"x-request-id": offered})
    assert response.headers["x-request-id"] == offered


@pytest.mark.parametrize("offered", ["", "a b", "x" * 65, "a\tb", "é", "a;b"])
async def test_any_other_request_id_is_replaced(offered: str, client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers=[(b"x-request-id", offered.encode())])
    assert response.headers["x-request-id"].startswith("req-")


async def test_errors_carry_the_request_id_too(client: httpx.AsyncClient) -> None:
    response = await client.get("/nowhere", headers={"x-request-id": "abc"})
    assert (response.status_code, response.headers["x-request-id"]) == (404, "abc")


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/generate", json={"prompt": "x" * 5000})
    assert response.status_code == 413
    assert "4096" in response.json()["error"]["message"]


async def test_a_body_of_unknown_length_is_refused_as_soon_as_it_is_too_long(
    client: httpx.AsyncClient,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1000

    response = await client.post("/generate", content=chunks())
    assert response.status_code == 413


async def test_a_body_at_the_limit_passes(client: httpx.AsyncClient) -> None:
    empty = len('{"prompt":""}')
    response = await client.post("/generate", json={"prompt": "x" * (4096 - empty)})
    assert response.status_code == 200


async def test_an_error_that_nobody_caught_becomes_a_500_in_the_same_shape(app: FastAPI) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a secret")

    app.add_api_route("/broken", fail)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        response = await client.get("/broken", headers={"x-request-id": "abc"})
    assert response.status_code == 500
    assert response.headers["x-request-id"] == "abc"
    assert response.json()["error"] == {
        "message": "internal error",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }


async def test_an_answer_that_breaks_off_closes_the_connection() -> None:
    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(ZeroDivisionError):
        await Edge(half, Metrics(lambda: None), Limits(100))(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_the_log_holds_sizes_and_names_but_no_text(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, LOGGER_NAME):
        await client.post("/generate", json={"prompt": "my secret, in SQL"})
        await client.post("/generate", json={"prompt": "my secret", "top_p": 9})
        await client.get("/my-secret-path")
    await asyncio.sleep(0)
    fields = [fields_of(record) for record in caplog.records if fields_of(record)]
    requests = [(line["route"], line["status"]) for line in fields if "route" in line]
    assert requests == [("/generate", 200), ("/generate", 400), ("unmatched", 404)]
    assert [line["experts"] for line in fields if "experts" in line] == ["sql"]
    assert all("trace_id" in line for line in fields)
    assert "secret" not in caplog.text + str(fields)
