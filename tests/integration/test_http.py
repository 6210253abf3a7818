"""Over a real socket: concurrent requests, streams, and clients that leave."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fakes import FakeEngine, make_services, write_expert
from tests.live import live_server


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def url(tmp_path: Path, engine: FakeEngine) -> Iterator[str]:
    for name in ("json", "sql", "triage"):
        write_expert(tmp_path / "experts", name, cues=(f"as {name}",))
    with live_server(make_services(tmp_path / "experts", engine)) as port:
        yield f"http://127.0.0.1:{port}"


async def test_ten_concurrent_requests_get_what_single_ones_get(url: str) -> None:
    prompts = [f"number {n} as {('json', 'sql', 'triage', 'is')[n % 4]}" for n in range(10)]
    async with httpx.AsyncClient(base_url=url) as client:
        single = [await client.post("/generate", json={"prompt": prompt}) for prompt in prompts]
        at_once = await asyncio.gather(*[client.post("/generate", json={"prompt": p}) for p in prompts])
    assert [reply.json()["text"] for reply in single] == [reply.json()["text"] for reply in at_once]
    assert len({reply.json()["id"] for reply in (*single, *at_once)}) == 20


async def test_streamed_and_whole_answers_hold_the_same_text(url: str) -> None:
    body = {"prompt": "é🙂 as sql"}
    async with httpx.AsyncClient(base_url=url) as client:
        whole = (await client.post("/generate", json=body)).json()
        async with client.stream("POST", "/generate", json={**body, "stream": True}) as response:
            lines = [line.removeprefix("data: ") async for line in response.aiter_lines() if line]
    assert lines.pop() == "[DONE]"
    events = [json.loads(line) for line in lines]
    assert "".join(event["text"] for event in events[:-1]) == whole["text"] == "sql: é🙂 as sql"


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_closed_connection_stops_the_work(is_stream: bool, url: str, engine: FakeEngine) -> None:
    engine.flowing.clear()
    async with httpx.AsyncClient(base_url=url, timeout=0.3) as client:
        with pytest.raises(httpx.ReadTimeout):
            request = client.build_request("POST", "/generate", json={"prompt": "hi", "stream": is_stream})
            response = await client.send(request, stream=True)
            await response.aread()
    deadline = time.monotonic() + 5
    while not engine.generations[0].is_cancelled and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert engine.generations[0].is_cancelled


async def test_a_huge_body_is_refused_and_the_server_goes_on(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        refused = await client.post("/generate", json={"prompt": "x" * (1 << 21)})
        assert refused.status_code == 413
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.post("/generate", json={"prompt": "hi"})).status_code == 200
