"""From warm-up to the last byte: readiness, a crash and the one restart, draining, deadlines."""

import asyncio
import time

import httpx
import pytest
from fastapi import FastAPI

from engine.errors import DeadlineExceeded, EngineStopped
from server.app import create_app
from server.bounds import within
from server.services import Lifecycle, Services
from server.settings import Settings
from tests.asgi import OpenRequest
from tests.fakes import FakeEngine

BODY: dict[str, object] = {"prompt": "hi"}


async def until_ready(lifecycle: Lifecycle) -> None:
    async with asyncio.timeout(5):
        while not lifecycle.is_ready:
            await asyncio.sleep(0.001)


async def test_the_engine_has_answered_before_the_server_is_ready(services: Services, engine: FakeEngine) -> None:
    lifecycle = Lifecycle(lambda: services)
    may_answer = asyncio.Event()

    async def slow() -> None:
        await may_answer.wait()

    engine.warm_up = slow  # type: ignore[method-assign]
    start = asyncio.create_task(lifecycle.start())
    await asyncio.sleep(0.05)
    assert (lifecycle.state, lifecycle.is_ready, lifecycle.is_healthy) == ("starting", False, True)
    may_answer.set()
    await start
    assert lifecycle.is_ready


async def test_an_engine_that_cannot_answer_is_a_start_that_failed(services: Services, engine: FakeEngine) -> None:
    engine.error = EngineStopped("it does not work")
    lifecycle = Lifecycle(lambda: services)
    with pytest.raises(EngineStopped, match="does not work"):
        await lifecycle.start()
    assert (lifecycle.state, lifecycle.is_healthy) == ("failed", False)


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_crash_is_told_to_who_waits_and_the_engine_comes_back_once(
    is_stream: bool, app: FastAPI, client: httpx.AsyncClient, lifecycle: Lifecycle, engine: FakeEngine
) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, "/generate", {**BODY, "stream": is_stream}) as request:
        while not engine.generations:
            await asyncio.sleep(0.001)
        engine.crash()
        assert (await client.get("/health")).status_code == 503
        assert await request.status() == (200 if is_stream else 503)
        assert "engine_stopped" in await request.text()
    await until_ready(lifecycle)
    assert (engine.num_restarts, engine.num_warm_ups, lifecycle.is_healthy) == (1, 2, True)
    assert (await client.post("/generate", json=BODY)).status_code == 200
    engine.crash()
    for _ in range(5):
        await asyncio.sleep(0.01)
        assert (await client.get("/health")).status_code == 503
        refused = await client.post("/generate", json=BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
    assert engine.num_restarts == 1


async def test_health_is_red_and_work_is_refused_while_the_engine_starts_again(
    client: httpx.AsyncClient, lifecycle: Lifecycle, engine: FakeEngine
) -> None:
    may_answer = asyncio.Event()

    async def slow() -> None:
        await may_answer.wait()

    engine.warm_up = slow  # type: ignore[method-assign]
    engine.crash()
    await asyncio.sleep(0.05)
    assert engine.error is None  # a new thread runs already, and nobody has seen it answer
    assert [(await client.get(path)).status_code for path in ("/health", "/ready")] == [503, 503]
    refused = await client.post("/generate", json=BODY)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "restarting" in refused.json()["error"]["message"]
    may_answer.set()
    await until_ready(lifecycle)


async def test_a_restart_that_fails_leaves_health_red(lifecycle: Lifecycle, engine: FakeEngine) -> None:
    def broken() -> None:
        raise RuntimeError("the device is gone")

    engine.restart = broken  # type: ignore[method-assign]
    engine.crash()
    async with asyncio.timeout(5):
        while lifecycle.state != "failed":
            await asyncio.sleep(0.001)
    assert not lifecycle.is_healthy
    await lifecycle.stop()


async def test_draining_refuses_new_work_and_lets_the_running_end(
    app: FastAPI, client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, "/generate", BODY) as request:
        while not engine.generations:
            await asyncio.sleep(0.001)
        draining = asyncio.create_task(app.state.drain())
        await asyncio.sleep(0.01)
        assert (await client.get("/health")).status_code == 200
        ready = await client.get("/ready")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        refused = await client.post("/generate", json=BODY)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert not draining.done()
        engine.flowing.set()
        assert await request.status() == 200
        assert "base: hi" in await request.text()
        await asyncio.wait_for(draining, 5)
    assert not engine.is_healthy
    assert len(engine.requests) == 1


async def test_draining_ends_in_time_whatever_runs(lifecycle: Lifecycle, engine: FakeEngine) -> None:
    app = create_app(lifecycle, Settings(drain_seconds=0))
    engine.flowing.clear()
    stopped: list[float] = []
    engine.stop = lambda: stopped.append(time.monotonic())  # type: ignore[method-assign]
    async with OpenRequest(app, "/generate", BODY) as request:
        while not engine.generations:
            await asyncio.sleep(0.001)
        await asyncio.wait_for(app.state.drain(), 5)
        assert stopped
        request.disconnect()


async def test_a_server_that_is_told_to_end_while_it_starts_does_not_become_ready(services: Services) -> None:
    may_load = asyncio.Event()
    loop = asyncio.get_running_loop()

    def build() -> Services:
        asyncio.run_coroutine_threadsafe(may_load.wait(), loop).result(5)
        return services

    told: list[object] = []
    lifecycle = Lifecycle(build)
    app = create_app(lifecycle, Settings(), told.append, told.append)
    async with app.router.lifespan_context(app):
        await asyncio.sleep(0.01)
        await app.state.drain()
        may_load.set()
    assert (lifecycle.state, told) == ("stopped", [])
    assert not services.engine.is_healthy


async def test_work_before_the_engine_counts_for_the_deadline(
    client: httpx.AsyncClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.tokenizer, "encode_chat", lambda *_: time.sleep(0.3))
    response = await client.post("/generate", json={**BODY, "timeout": 0.05})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert "0.05 seconds" in response.json()["error"]["message"]


@pytest.mark.parametrize(("field", "header", "longest"), [(5, None, 5), (None, "3", 3), (5, "3", 3), (2, "3", 2)])
async def test_the_shorter_of_field_and_header_reaches_the_engine(
    field: float | None, header: str | None, longest: float, client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    headers = {} if header is None else {"x-request-timeout": header}
    await client.post("/generate", json={**BODY, "timeout": field}, headers=headers)
    deadline = engine.requests[0].deadline_s
    assert deadline is not None and longest - 1 < deadline <= longest


async def test_without_either_there_is_no_deadline(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await client.post("/generate", json=BODY)
    assert engine.requests[0].deadline_s is None


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", "1e9"])
async def test_a_deadline_out_of_its_bounds_is_named(value: str, client: httpx.AsyncClient) -> None:
    response = await client.post("/generate", json=BODY, headers={"x-request-timeout": value})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "x-request-timeout")


async def test_another_timeout_inside_is_not_taken_for_the_deadline() -> None:
    with pytest.raises(TimeoutError):
        async with within(5):
            raise TimeoutError
    with pytest.raises(DeadlineExceeded):
        async with within(0.001):
            await asyncio.sleep(1)
