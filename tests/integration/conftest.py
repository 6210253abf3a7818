"""The embedded default as it ships: real base, real experts, real grammars, over HTTP in this process."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from server.app import create_app
from server.services import Lifecycle, build_services
from server.settings import Settings

Reply = dict[str, Any]
OpenServer = Callable[..., Any]


class Client:
    """Posts prompts and gives the parsed replies."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def generate(self, prompt: str, **fields: object) -> Reply:
        response = await self.http.post("/generate", json={"prompt": prompt, **fields})
        assert response.status_code == 200, response.text
        reply: Reply = response.json()
        return reply


@pytest.fixture(scope="session")
def grammar_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session", autouse=True)
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def open_server(grammar_cache: Path) -> OpenServer:
    """`async with open_server(slots=1) as client:` starts the real server on the embedded default."""

    @asynccontextmanager
    async def opened(**settings: Any) -> AsyncIterator[Client]:
        chosen = Settings(cache_dir=grammar_cache, **settings)
        lifecycle = Lifecycle(lambda: build_services(chosen))
        await lifecycle.start()
        transport = httpx.ASGITransport(create_app(lifecycle, chosen))
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as http:
                yield Client(http)
        finally:
            await lifecycle.stop()

    return opened
