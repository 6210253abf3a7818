"""`/v1/embeddings`: the encoder's vectors in both formats."""

import base64
from dataclasses import replace

import httpx
import numpy as np
import pytest

from router.encoder import load_encoder
from server.app import create_app
from server.services import Lifecycle, Services
from server.settings import Settings

PATH = "/v1/embeddings"


@pytest.fixture
async def client(services: Services, settings: Settings) -> httpx.AsyncClient:
    lifecycle = Lifecycle(lambda: replace(services, encoder=load_encoder()))
    await lifecycle.start()
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(lifecycle, settings)), base_url="http://localhost"
    )


async def test_texts_become_the_encoders_vectors_in_their_order(client: httpx.AsyncClient) -> None:
    texts = ["count the singers", "how far is it in miles"]
    reply = (await client.post(PATH, json={"model": "encoder", "input": texts})).json()
    expected = load_encoder().encode(texts)
    assert [each["index"] for each in reply["data"]] == [0, 1]
    assert np.allclose([each["embedding"] for each in reply["data"]], expected)
    assert reply["usage"]["prompt_tokens"] == sum(map(len, texts))


async def test_base64_is_little_endian_floats_and_ids_are_their_text(client: httpx.AsyncClient) -> None:
    body = {"model": "tiny", "input": list(b"singers"), "encoding_format": "base64"}
    [each] = (await client.post(PATH, json=body)).json()["data"]
    vector = np.frombuffer(base64.b64decode(each["embedding"]), "<f4")
    assert np.allclose(vector, load_encoder().encode(["singers"])[0])


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"model": "text-embedding-3-small"}, 404),
        ({"dimensions": 7}, 400),
        ({"input": []}, 400),
        ({"input": ""}, 400),
        ({"input": [999]}, 400),
        ({"input": ["a"] * 257}, 400),
        ({"encoding_format": "int8"}, 400),
    ],
)
async def test_what_it_has_not_is_refused(fields: dict[str, object], status: int, client: httpx.AsyncClient) -> None:
    assert (await client.post(PATH, json={"input": "x", **fields})).status_code == status


async def test_a_model_without_vectors_is_told_which_have_some(client: httpx.AsyncClient) -> None:
    for model in ("text-embedding-3-small", "sql"):
        response = await client.post(PATH, json={"input": "x", "model": model})
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert error["message"] == f"the model '{model}' has no vectors; send 'encoder', or the base's id 'tiny'"
