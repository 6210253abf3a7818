"""A server over fakes: three experts on disk, the real store and router, an engine that answers by a rule."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from adapters_store.manifest import DecodingDefaults
from server.app import create_app
from server.log import LOGGER_NAME
from server.services import Lifecycle, Services
from server.settings import Settings
from tests.fakes import OTHER_FINGERPRINT, FakeCompiler, FakeEngine, make_services, write_expert


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)
    for name in (LOGGER_NAME, "engine"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def experts_dir(tmp_path: Path) -> Path:
    root = tmp_path / "experts"
    write_expert(
        root,
        "sql",
        cues=("in sql",),
        examples=("In SQL: count the singers",),
        grammar="sql",
        decoding=DecodingDefaults(temperature=0.5, max_tokens=40),
    )
    write_expert(root, "json", cues=("as json",), grammar_text='root ::= "{}"')
    write_expert(root, "free", cues=("freely please",))
    write_expert(root, "foreign", cues=("in another tongue",), base=OTHER_FINGERPRINT)
    return root


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def services(experts_dir: Path, engine: FakeEngine) -> Services:
    engine.start()
    return make_services(experts_dir, engine)


@pytest.fixture
def compiler(services: Services) -> FakeCompiler:
    assert isinstance(services.compiler, FakeCompiler)
    return services.compiler


@pytest.fixture
def settings() -> Settings:
    return Settings(max_body_bytes=4096)


@pytest.fixture
async def lifecycle(services: Services) -> Lifecycle:
    lifecycle = Lifecycle(lambda: services)
    await lifecycle.start()
    return lifecycle


@pytest.fixture
def app(lifecycle: Lifecycle, settings: Settings) -> FastAPI:
    return create_app(lifecycle, settings)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client
