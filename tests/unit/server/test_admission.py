"""Places: who is one too many hears so before any work, and every place is given back."""

import asyncio
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.admission import Admission, KeyBusy, ServerFull
from server.app import create_app
from server.keys import ANYBODY, Caller, KeyFile
from server.services import Lifecycle
from server.settings import Settings
from tests.asgi import OpenRequest
from tests.fakes import FakeEngine

A, B = Caller("a", frozenset({"generate"})), Caller("b", frozenset({"generate"}), max_concurrent=1)


def test_one_too_many_is_refused_with_the_limit() -> None:
    admission = Admission(1)
    with admission.place(ANYBODY):
        with pytest.raises(ServerFull, match="1 requests are being worked on, the limit is 1"), admission.place(A):
            pass
    with admission.place(A):
        assert admission.num_running == 1


def test_a_keys_own_limit_counts_before_the_servers() -> None:
    admission = Admission(10, limit_per_key=2)
    with admission.place(B), admission.place(A), admission.place(A):
        for caller in (A, B):
            with pytest.raises(KeyBusy), admission.place(caller):
                pass
        with admission.place(ANYBODY), admission.place(ANYBODY), admission.place(ANYBODY):
            assert admission.num_running == 6


@given(st.lists(st.tuples(st.sampled_from([ANYBODY, A, B]), st.booleans()), max_size=30))
async def test_places_are_always_given_back(steps: list[tuple[Caller, bool]]) -> None:
    admission = Admission(4, limit_per_key=2)
    held = []
    for caller, is_entering in steps:
        if is_entering:
            place = admission.place(caller)
            try:
                place.__enter__()
            except (ServerFull, KeyBusy):
                continue
            held.append(place)
        elif held:
            held.pop().__exit__(None, None, None)
        assert admission.num_running == len(held) <= 4
    for place in held:
        place.__exit__(None, None, None)
    assert admission.num_running == 0
    await asyncio.wait_for(admission.wait_until_idle(), 1)


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_request_keeps_its_place_to_its_last_byte(
    is_stream: bool, lifecycle: Lifecycle, engine: FakeEngine
) -> None:
    app = create_app(lifecycle, Settings(max_queue=1, max_batch=1))
    engine.flowing.clear()
    body: dict[str, object] = {"prompt": "hi", "stream": is_stream}
    async with (
        OpenRequest(app, "/generate", body) as first,
        OpenRequest(app, "/generate", body) as second,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client,
    ):
        while len(engine.requests) < 2:
            await asyncio.sleep(0.001)
        refused = await client.post("/generate", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        first.disconnect()
        second.disconnect()
        await asyncio.wait_for(asyncio.gather(first.task, second.task), 5)
        engine.flowing.set()
        assert (await client.post("/generate", json=body)).status_code == 200
    assert len(engine.requests) == 3  # the refused one was no work


async def test_a_busy_key_leaves_the_others_alone(lifecycle: Lifecycle, tmp_path: Path, engine: FakeEngine) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    busy, other = keys.add("busy", ["generate"], max_concurrent=1), keys.add("other", ["generate"])
    app = create_app(lifecycle, Settings(keys_file=keys.path))
    engine.flowing.clear()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        first = asyncio.create_task(client.post("/generate", json={"prompt": "x"}, headers={"x-api-key": busy}))
        while not engine.requests:
            await asyncio.sleep(0.001)
        refused = await client.post("/generate", json={"prompt": "x"}, headers={"x-api-key": busy})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "key_concurrency")
        engine.flowing.set()
        assert (await client.post("/generate", json={"prompt": "x"}, headers={"x-api-key": other})).status_code == 200
        assert (await first).status_code == 200


async def test_a_request_that_fails_gives_its_place_back(client: httpx.AsyncClient) -> None:
    for _ in range(200):
        assert (await client.post("/generate", json={"prompt": "x", "experts": ["nobody"]})).status_code == 404
    assert (await client.post("/generate", json={"prompt": "x"})).status_code == 200
