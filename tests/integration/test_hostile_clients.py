"""Over a real socket: clients that send too much, too slowly or not at all, and clients that do not read."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from server.settings import Settings
from tests.fakes import FakeEngine, make_services
from tests.live import live_server

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
HEAD = b"POST /generate HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def port(tmp_path: Path, engine: FakeEngine) -> Iterator[int]:
    settings = Settings(client_seconds=0.4, max_header_bytes=4096, max_body_bytes=1 << 20, drain_seconds=1)
    with live_server(make_services(tmp_path / "experts", engine), settings) as port:
        yield port


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


async def sent(port: int, *pieces: bytes) -> bytes:
    """All that the server says to these bytes until it closes the connection; nothing where it resets it.

    A server that closes before it has read everything resets, and what it said may be lost on the way.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        return await asyncio.wait_for(reader.read(), 5)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def still_answers(port: int) -> bool:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        return (await client.post("/generate", json={"prompt": "hi"})).status_code == 200


@pytest.mark.parametrize("head", [b"", b"P", b"POST /generate HTTP/1.1\r\nhost: localhost\r\nx-slow: "])
async def test_slowloris_a_head_that_does_not_come_ends_the_connection(head: bytes, port: int) -> None:
    with at_most(3):
        assert b"200" not in await sent(port, head)
    assert await still_answers(port)


async def test_slowloris_a_head_that_drips_is_no_reason_to_wait_longer(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def drip() -> None:
        writer.write(HEAD)
        while True:
            await asyncio.sleep(0.05)
            writer.write(b"x-a: b\r\n")

    dripping = asyncio.create_task(drip())
    with at_most(3):
        try:
            assert await asyncio.wait_for(reader.read(), 5) == b""
        except ConnectionResetError:
            pass
    dripping.cancel()
    writer.close()


async def test_a_body_that_does_not_come_is_a_408(port: int, engine: FakeEngine) -> None:
    with at_most(3):
        answer = await sent(port, HEAD + b"content-length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408") and b"client_too_slow" in answer
    assert not engine.requests
    assert await still_answers(port)


async def test_a_second_head_on_the_same_connection_has_its_time_too(port: int) -> None:
    body = json.dumps({"prompt": "hi"}).encode()
    whole = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    with at_most(3):
        answer = await sent(port, whole, b"POST /gen")
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"x-big: " + b"a" * 5000 + b"\r\n",
        lambda: b"".join(b"x-%d: a\r\n" % n for n in range(1000)),
        lambda: b"a" * 100_000,
    ],
    ids=["long", "many", "endless"],
)
async def test_cve_2025_48956_a_giant_head_is_refused(make: Callable[[], bytes], port: int) -> None:
    """vLLM: one header as large as memory. uvicorn refuses what comes in pieces, we what comes at once."""
    head = HEAD + make()
    answer = await sent(port, head + b"\r\n\r\n")
    is_lost = not answer and len(head) > 64 << 10  # what uvicorn refuses itself it does not read to its end
    assert is_lost or answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")
    assert await still_answers(port)


async def test_a_long_target_counts_as_head(port: int) -> None:
    answer = await sent(port, b"GET /health?" + b"a" * 4090 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431") and b"headers_too_large" in answer


async def test_a_client_that_does_not_read_is_let_go_and_its_work_stops(port: int, engine: FakeEngine) -> None:
    engine.rule = lambda _prompt, _experts: "x" * 3_000_000  # seconds of work, since writes are joined
    engine.max_prompt = 1 << 20
    body = json.dumps({"prompt": "hi", "stream": True, "max_tokens": 100_000}).encode()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", port))
        client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        deadline = time.monotonic() + 30
        while not (engine.generations and engine.generations[0].is_cancelled) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
    assert engine.num_running == 0
    assert engine.generations[0].is_cancelled
    assert engine.generations[0].num_given < 3_000_000


@pytest.mark.parametrize("size", [(1 << 20) + 1, 3 << 20, 20 << 20])
async def test_a_body_that_is_too_long_is_read_to_its_end_so_that_its_sender_hears_why(size: int, port: int) -> None:
    for _ in range(3):
        answer = await sent(port, HEAD + b"content-length: %d\r\n\r\n" % size + b"a" * size)
        assert answer.startswith(b"HTTP/1.1 413") and b"body_too_large" in answer
    assert await still_answers(port)


async def test_what_is_no_http_is_refused_and_the_server_goes_on(port: int) -> None:
    for piece in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 5000):
        assert b"200 OK" not in await sent(port, piece)
    assert await still_answers(port)


async def test_a_client_that_offers_http2_has_its_body_read(port: int) -> None:
    """Java's own client offers it with each request; parsers that take the offer for an upgrade drop the body."""
    body = b'{"prompt": "hi"}'
    offer = (
        b"connection: upgrade, http2-settings, close\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
    )
    answer = await sent(port, HEAD + offer + b"content-length: %d\r\n\r\n" % len(body), body)
    assert answer.startswith(b"HTTP/1.1 200")
