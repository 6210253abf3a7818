"""Session-wide base and adapters; every test makes its own engine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from engine.config import EngineConfig
from engine.service import Engine
from tests.unit.engine.models import Reference, configs, make_reference, save_base

MakeEngine = Callable[..., Engine]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def references(base: Path) -> dict[str, Reference]:
    return {
        name: make_reference(base, name, config, virtual, seed)
        for seed, (name, (config, virtual)) in enumerate(configs().items())
    }


@pytest.fixture
def make_engine(base: Path) -> Iterator[MakeEngine]:
    """Starts engines on the small base, fp32 unless told otherwise, and stops them after the test."""
    made: list[Engine] = []

    def make(**settings: object) -> Engine:
        engine = Engine.load(EngineConfig(**{"base": base, "quantization": "fp32", "kv_blocks": 64, **settings}))  # type: ignore[arg-type]
        engine.start()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.stop()
