"""An expert is replaced while a hundred streams use it: they end on the old weights, the next begins on the new."""

import asyncio
import json
from pathlib import Path

import httpx
from pydantic import SecretStr
from safetensors.torch import load, save

from adapters_store.installer import Installer
from adapters_store.manifest import WEIGHTS_FILE
from adapters_store.package import MANIFEST_FILE, read_package, write_package
from server.services import build_services
from server.settings import Settings
from tests.live import live_server

EMBEDDED = Path(__file__).resolve().parents[2] / "adapters_store" / "experts" / "typescript"
PROMPT = (
    "Write a TypeScript interface Person with name as a string and age as a number and city as a string"
    " and optional email as a string."
)
NUM_STREAMS = 100
KEY = "0123456789abcdef"


def content_of(staging: Path, scale: float) -> dict[str, bytes]:
    """The expert with its low-rank part scaled: another generation under the same name."""
    manifest = read_package(EMBEDDED).manifest
    files = {entry.name: (EMBEDDED / entry.name).read_bytes() for entry in manifest.files}
    tensors = load(files[WEIGHTS_FILE])
    files[WEIGHTS_FILE] = save({k: (t * scale if "lora_B" in k else t).contiguous() for k, t in tensors.items()})
    write_package(staging / "typescript", manifest, files)
    return {path.name: path.read_bytes() for path in (staging / "typescript").iterdir()}


class Streams:
    """Streamed answers of the expert; `num_begun` of them have taken their lease."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.num_begun = 0

    async def read(self) -> str:
        """One answer's text. Without a grammar its weights alone decide."""
        body = {"prompt": PROMPT, "experts": ["typescript"], "grammar": None, "temperature": 0, "stream": True}
        text = ""
        async with self._client.stream("POST", "/generate", json=body) as response:
            self.num_begun += 1
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    assert "error" not in event, event
                    text += event.get("text", "")
        return text

    async def until_begun(self, count: int) -> None:
        while self.num_begun < count:
            await asyncio.sleep(0.002)


async def leases(client: httpx.AsyncClient) -> dict[str, int]:
    """By generation, of what host memory holds."""
    host = (await client.get("/admin/state")).json()["host"]
    return {resident["generation"]: resident["leases"] for resident in host["residents"]}


async def test_replacing_an_expert_during_a_hundred_streams_changes_none_of_them(
    tmp_path: Path, grammar_cache: Path
) -> None:
    root = tmp_path / "experts"
    root.mkdir()
    first, second = content_of(tmp_path / "first", 1.0), content_of(tmp_path / "second", 0.0)
    assert first[MANIFEST_FILE] != second[MANIFEST_FILE]
    old = Installer(root).install(first)
    settings = Settings(experts=root, cache_dir=grammar_cache)
    limits = httpx.Limits(max_connections=NUM_STREAMS + 8)
    with live_server(build_services(settings), settings.model_copy(update={"admin_key": SecretStr(KEY)})) as port:
        url, headers = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120, limits=limits) as client:
            streams = Streams(client)
            before = await streams.read()
            running = [asyncio.ensure_future(streams.read()) for _ in range(NUM_STREAMS)]
            await asyncio.wait_for(streams.until_begun(1 + NUM_STREAMS), 120)
            new = await asyncio.to_thread(Installer(root).install, second)
            loaded = (await client.post("/admin/experts/typescript/load")).json()
            held = await leases(client)
            after = await streams.read()
            assert loaded["generation"] == new.generation
            assert held.get(old.generation, 0) >= 10, "the streams had ended before the expert was replaced"
            assert set(await asyncio.gather(*running)) == {before}
            assert after != before
            assert await streams.read() == after
            assert set(await leases(client)) == {new.generation}, "the old generation outlives its last lease"
