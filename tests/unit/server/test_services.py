"""What `auto` means, what is refused at the start, and the states between the first second and the last."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.budget import budget_of, fitted
from engine.model.config import read_config
from server.engine_config import engine_config
from server.errors import NotReady
from server.services import Lifecycle, Services, build_services, memory_line
from server.settings import Quantization, Settings, SettingsInvalid
from tests.fakes import FakeCompiler, FakeEngine


def test_auto_is_int8_on_a_cpu() -> None:
    config = engine_config(Settings(), num_tokens=7, has_cuda=False)
    assert (config.device, config.quantization, config.num_tokens) == ("cpu", "int8", 7)


def test_auto_is_nf4_on_cuda() -> None:
    config = engine_config(Settings(), num_tokens=7, has_cuda=True)
    assert (config.device, config.quantization) == ("cuda", "nf4")


def test_a_choice_of_the_operator_stands() -> None:
    settings = Settings(device="cpu", quantization="fp32", kv_dtype="int8", slots=3, max_batch=5, max_queue=9)
    config = engine_config(settings, num_tokens=7, has_cuda=True)
    assert (config.device, config.quantization, config.kv_dtype) == ("cpu", "fp32", "int8")
    assert (config.num_slots, config.max_batch, config.max_queue) == (3, 5, 9)


def test_a_batch_larger_than_a_step_makes_the_step_larger() -> None:
    assert engine_config(Settings(max_batch=600), num_tokens=7, has_cuda=False).max_step_tokens == 600


def test_cuda_without_a_device_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="no CUDA device"):
        engine_config(Settings(device="cuda"), num_tokens=7, has_cuda=False)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_what_the_engine_cannot_do_is_refused_in_its_own_words(quantization: Quantization) -> None:
    with pytest.raises(SettingsInvalid, match=f"{quantization} runs on a CPU only"):
        engine_config(Settings(device="cuda", quantization=quantization), num_tokens=7, has_cuda=True)


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="nowhere"):
        build_services(Settings(base=tmp_path / "nowhere"))


async def test_requests_wait_for_the_rooms(services: Services) -> None:
    may_load = threading.Event()

    def build() -> Services:
        may_load.wait(5)
        return services

    lifecycle = Lifecycle(build)
    start = asyncio.create_task(lifecycle.start())
    await asyncio.sleep(0)
    with pytest.raises(NotReady, match="starting"):
        lifecycle.require()
    assert (lifecycle.is_ready, lifecycle.is_healthy, lifecycle.services) == (False, True, None)
    may_load.set()
    assert await start is services
    assert lifecycle.require() is services
    assert (lifecycle.is_ready, lifecycle.is_healthy) == (True, True)


async def test_the_engine_is_started_and_stopped(services: Services, engine: FakeEngine) -> None:
    engine.stop()
    lifecycle = Lifecycle(lambda: services)
    await lifecycle.start()
    was_healthy = engine.is_healthy
    await lifecycle.stop()
    assert (was_healthy, engine.is_healthy) == (True, False)
    assert isinstance(services.compiler, FakeCompiler)
    assert services.compiler.is_closed
    with pytest.raises(NotReady, match="stopped"):
        lifecycle.require()
    assert not lifecycle.is_ready


async def test_a_dead_engine_is_neither_ready_nor_healthy(lifecycle: Lifecycle, engine: FakeEngine) -> None:
    engine.die()
    assert (lifecycle.is_ready, lifecycle.is_healthy) == (False, False)


async def test_a_start_that_fails_says_why_and_stays_failed() -> None:
    def build() -> Services:
        raise SettingsInvalid("no base")

    lifecycle = Lifecycle(build)
    with pytest.raises(SettingsInvalid, match="no base"):
        await lifecycle.start()
    assert (lifecycle.state, lifecycle.is_ready, lifecycle.is_healthy) == ("failed", False, False)
    await lifecycle.stop()


def test_the_number_of_threads_is_torchs(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        (tmp_path / "base").mkdir()
        with pytest.raises(Exception, match=r".+"):
            build_services(Settings(base=tmp_path / "base", threads=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_what_the_engine_holds_is_said_in_a_line() -> None:
    settings = Settings(slots=3, memory=64 << 20, quantization="fp32")
    config = engine_config(settings, num_tokens=0, has_cuda=False)
    shape = read_config(settings.base)
    line = memory_line(budget_of(fitted(config, shape), shape))
    assert "3 slots 11.0 MiB" in line and "tokens" in line and line.count("\n") == 0
    assert "free" in line and "free" not in memory_line(
        budget_of(fitted(replace(config, memory_bytes=0), shape), shape)
    )


def test_the_name_of_a_base_that_is_not_there_is_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsInvalid, match="pin its commit with --revision"):
        build_services(Settings(base=Path("Qwen/Qwen3-0.6B")))
