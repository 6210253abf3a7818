"""SIGTERM to a real process: who runs ends, who comes is told why not, and the exit status says that all is well."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
Process = asyncio.subprocess.Process
Started = Callable[[int], AbstractAsyncContextManager[tuple[Process, httpx.AsyncClient]]]


@pytest.fixture
def started(tmp_path: Path) -> Started:
    """`async with started(drain_seconds) as (process, client):`"""

    @asynccontextmanager
    async def start(drain_seconds: int) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        command = ("-m", "tests.draining_server", str(tmp_path / "experts"), str(port), str(drain_seconds))
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
                await until_ready(client)
                yield process, client
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    return start


async def until_ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(90):
        while True:
            try:
                if (await client.get("/ready")).status_code == 200:
                    return
            except httpx.ConnectError:
                pass
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_the_status_is_zero(number: signal.Signals, started: Started) -> None:
    async with started(10) as (process, client):
        whole = asyncio.create_task(client.post("/generate", json={"prompt": "hi"}))
        stream = asyncio.create_task(client.post("/generate", json={"prompt": "hi", "stream": True}))
        await asyncio.sleep(0.3)
        process.send_signal(number)
        await asyncio.sleep(0.2)
        assert (await client.get("/ready")).json() == {"status": "draining"}
        refused = await client.post("/generate", json={"prompt": "late"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert (await whole).json()["text"] == "base: hi"
        assert (await stream).text.endswith("data: [DONE]\n\n")
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_what_runs_too_long_is_ended_with_a_word(started: Started) -> None:
    async with started(0) as (process, client):
        running = asyncio.create_task(client.post("/generate", json={"prompt": "hi"}))
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        answer = await running
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_stopped")
        assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_an_idle_connection_does_not_keep_the_server(started: Started) -> None:
    async with started(10) as (process, client):
        assert (await client.get("/health")).status_code == 200  # and stays connected
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 5) == 0
