"""The lifespan: answers at once, tells when the rooms run or why they do not, stops them at the end."""

import asyncio
import threading

import httpx
import pytest

from server.app import create_app
from server.services import Lifecycle, Services
from server.settings import Settings, SettingsInvalid
from tests.fakes import FakeEngine


async def test_readiness_comes_with_the_rooms_and_goes_with_the_lifespan(
    services: Services, settings: Settings, engine: FakeEngine
) -> None:
    may_load = threading.Event()
    ready: asyncio.Future[Services] = asyncio.get_running_loop().create_future()

    def build() -> Services:
        may_load.wait(5)
        return services

    app = create_app(Lifecycle(build), settings, on_ready=ready.set_result)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        assert (await client.get("/ready")).status_code == 503
        assert (await client.get("/health")).status_code == 200
        refused = await client.post("/generate", json={"prompt": "x"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
        assert not ready.done()
        may_load.set()
        assert await asyncio.wait_for(ready, 5) is services
        assert (await client.get("/ready")).status_code == 200
    assert not engine.is_healthy


async def test_a_start_that_fails_is_told_once(settings: Settings) -> None:
    failure: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def build() -> Services:
        raise SettingsInvalid("no base")

    app = create_app(Lifecycle(build), settings, on_failure=failure.set_result)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        error = await asyncio.wait_for(failure, 5)
        assert (await client.get("/health")).status_code == 503
    assert str(error) == "no base"


@pytest.mark.parametrize("path", ["/generate", "/experts", "/health", "/ready", "/metrics"])
def test_every_endpoint_is_in_the_description(path: str, services: Services, settings: Settings) -> None:
    description = create_app(Lifecycle(lambda: services), settings).openapi()
    assert path in description["paths"]


def test_the_description_holds_the_requests_bounds(services: Services, settings: Settings) -> None:
    description = create_app(Lifecycle(lambda: services), settings).openapi()
    request = description["components"]["schemas"]["GenerateRequest"]
    assert request["additionalProperties"] is False
    assert request["properties"]["max_experts"]["maximum"] == 10
