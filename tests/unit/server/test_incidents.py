"""Incidents of other servers, sent to ours: numbers that reach native code, names that become paths, huge counts."""

import json

import httpx
import pytest

from server.schemas import GenerateRequest
from tests.fakes import FakeEngine

NUMBERS = sorted(
    name
    for name, schema in GenerateRequest.model_json_schema()["properties"].items()
    if {"integer", "number"} & {part.get("type") for part in (schema, *schema.get("anyOf", []))}
)


def test_there_are_numbers_to_try() -> None:
    assert {"max_tokens", "top_k", "seed", "max_experts", "temperature", "timeout"} <= set(NUMBERS)


SIGNED = ("frequency_penalty", "presence_penalty", "seed", "top_k")
"""Where -1 is a value like others, or no limit."""
VALUES = ["-1", "-9223372036854775809", "1e400", "NaN", "Infinity", "9" * 400, '"1"', "[1]"]


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field in NUMBERS for value in VALUES if (field in SIGNED, value) != (True, "-1")],
)
async def test_cve_2026_21869_no_number_reaches_native_code_unbounded(
    field: str, value: str, client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    """llama.cpp took a negative count as an offset."""
    content = f'{{"prompt": "x", {json.dumps(field)}: {value}}}'
    response = await client.post("/generate", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert not engine.requests


async def test_what_may_be_negative_reaches_the_engine_as_it_is_meant(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    response = await client.post("/generate", json={"prompt": "x", **dict.fromkeys(SIGNED, -1)})
    assert response.status_code == 200
    sampling = engine.requests[0].sampling
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.seed) == (-1, -1, -1)
    assert sampling.top_k == 0


@pytest.mark.parametrize("field", ["n", "best_of", "logprobs"])
async def test_cve_2026_34756_a_huge_count_is_refused(
    field: str, client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    """vLLM < 0.19: one request with a huge `n` took the event loop."""
    response = await client.post("/generate", json={"prompt": "x", field: 10**9})
    assert response.status_code == 400
    assert not engine.requests


@pytest.mark.parametrize(
    "name",
    ["../sql", "/etc/passwd", "sql/../sql", "https://example.org/x", "s3://bucket/x", "sql\x00", "..", ".", "file:sql"],
)
async def test_lorax_798_a_name_is_never_a_path_or_an_address(
    name: str, client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    """LoRAX joined adapter ids to directories and fetched what looked like an address."""
    for choice in (name, {"name": name, "weight": 1.0}):
        response = await client.post("/generate", json={"prompt": "x", "experts": [choice]})
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "expert_not_found"
    assert not engine.requests


async def test_a_bad_request_is_no_work_however_many_come(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    for _ in range(50):
        assert (await client.post("/generate", json={"prompt": "x", "messages": []})).status_code == 400
    assert not engine.requests
    assert (await client.post("/generate", json={"prompt": "x"})).status_code == 200
