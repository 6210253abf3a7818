"""TGI's and LoRAX's form: on `/generate`, on `/generate_stream` and on `/`, answers and errors."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.request import SamplingParams
from tests.asgi import OpenRequest
from tests.fakes import FakeCompiler, FakeEngine


def tokens(text: str) -> list[Any]:
    return [json.loads(block.removeprefix("data:")) for block in text.removesuffix("\n\n").split("\n\n")]


async def test_inputs_are_answered_in_their_form(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    response = await client.post("/generate", json={"inputs": "hi", "parameters": {"adapter_id": "sql"}})
    assert response.json() == {"generated_text": "sql: hi"}
    assert bytes(engine.requests[0].prompt_ids) == b"hi"


@pytest.mark.parametrize("adapter", [None, "", "__base_model__"])
async def test_no_adapter_is_the_base(adapter: str | None, client: httpx.AsyncClient) -> None:
    body = {"inputs": "in SQL", "parameters": {"adapter_id": adapter}}
    assert (await client.post("/generate", json=body)).json()["generated_text"] == "base: in SQL"


async def test_the_parameters_reach_the_engine(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    parameters = {
        "adapter_parameters": {"adapter_ids": ["sql", "json"], "weights": [1.0, 0.5], "merge_strategy": "linear"},
        "max_new_tokens": 3,
        "do_sample": True,
        "top_k": 5,
        "top_p": 0.9,
        "repetition_penalty": 1.2,
        "seed": 1,
        "ignore_eos_token": True,
        "watermark": False,
        "truncate": None,
    }
    reply = (await client.post("/generate", json={"inputs": "hi", "parameters": parameters})).json()
    assert reply["generated_text"] == "sql"
    assert [use.weight for use in engine.requests[0].experts] == [1.0, 0.5]
    assert engine.requests[0].sampling == SamplingParams(
        temperature=1.0, top_k=5, top_p=0.9, repetition_penalty=1.2, seed=1, max_tokens=3, ignore_eos=True
    )


async def test_details_name_tokens_and_the_reason(client: httpx.AsyncClient) -> None:
    parameters = {"details": True, "max_new_tokens": 2, "return_full_text": True, "seed": 3}
    reply = (await client.post("/generate", json={"inputs": "hi", "parameters": parameters})).json()
    assert reply["generated_text"] == "hiba"
    assert reply["details"] == {
        "finish_reason": "length",
        "generated_tokens": 2,
        "prompt_tokens": 2,
        "seed": 3,
        "prefill": [],
        "tokens": [
            {"id": 98, "text": "b", "logprob": -0.5, "special": False},
            {"id": 97, "text": "a", "logprob": -0.5, "special": False},
        ],
    }


@pytest.mark.parametrize(
    ("parameters", "reason", "text"),
    [
        ({}, "eos_token", "base: hi"),
        ({"stop": [":"]}, "stop_sequence", "base:"),
        ({"max_new_tokens": 2}, "length", "ba"),
    ],
)
async def test_a_stream_has_an_event_for_each_token_and_the_text_in_its_last(
    parameters: dict[str, object], reason: str, text: str, client: httpx.AsyncClient
) -> None:
    response = await client.post("/generate_stream", json={"inputs": "hi", "parameters": parameters})
    assert response.headers["content-type"].startswith("text/event-stream")
    *before, last = tokens(response.text)
    assert "".join(event["token"]["text"] for event in (*before, last)) == text
    assert [event["index"] for event in (*before, last)] == list(range(1, len(text) + 1))
    assert all(event["generated_text"] is None and event["details"] is None for event in before)
    assert (last["generated_text"], last["details"]["finish_reason"]) == (text, reason)
    assert last["details"]["generated_tokens"] == len(text)


async def test_a_character_of_several_tokens_is_shown_once(client: httpx.AsyncClient) -> None:
    events = tokens((await client.post("/generate_stream", json={"inputs": "🙂"})).text)
    assert "".join(event["token"]["text"] for event in events) == "base: 🙂"
    assert [event["token"]["id"] for event in events][-4:] == list("🙂".encode())


async def test_tokens_that_come_together_have_an_event_each(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.num_at_once = 3
    events = tokens((await client.post("/generate_stream", json={"inputs": "hello"})).text)
    assert [event["token"]["text"] for event in events] == list("base: hello")
    assert [event["index"] for event in events] == list(range(1, 12))


async def test_the_root_answers_a_list_or_streams(client: httpx.AsyncClient) -> None:
    assert (await client.post("/", json={"inputs": "hi"})).json() == [{"generated_text": "base: hi"}]
    response = await client.post("/", json={"inputs": "hi", "stream": True})
    assert tokens(response.text)[-1]["generated_text"] == "base: hi"


@pytest.mark.parametrize(
    "grammar",
    [
        {"type": "regex", "value": "[ab]"},
        {"type": "json", "value": {"enum": ["a"]}},
        {"type": "json_object", "schema": {"enum": ["a"]}},
    ],
)
@pytest.mark.parametrize("field", ["grammar", "response_format"])
async def test_grammars_of_both_are_understood(
    field: str, grammar: dict[str, object], client: httpx.AsyncClient, compiler: FakeCompiler
) -> None:
    response = await client.post("/generate", json={"inputs": "hi", "parameters": {field: grammar}})
    assert response.status_code == 200
    assert len(compiler.tried) == 1


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
@pytest.mark.parametrize(
    "parameters",
    [
        {"max_new_tokens": 0},
        {"temperature": "hot"},
        {"best_of": 2},
        {"typical_p": 0.9},
        {"watermark": True},
        {"decoder_input_details": True},
        {"adapter_source": "hub"},
        {"adapter_id": "nobody"},
        {"adapter_parameters": {"adapter_ids": ["sql"], "merge_strategy": "ties"}},
        {"grammar": {"type": "regex", "value": {}}},
    ],
)
async def test_refusals_have_the_shape_that_its_clients_read(
    path: str, parameters: dict[str, object], client: httpx.AsyncClient
) -> None:
    response = await client.post(path, json={"inputs": "hi", "parameters": parameters})
    assert response.status_code == 422
    assert response.json()["error_type"] == "validation" and response.json()["error"]


async def test_an_overload_is_one_in_its_form_too(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.num_queued = engine.max_queue
    for path in ("/generate", "/generate_stream", "/"):
        response = await client.post(path, json={"inputs": "hi"})
        assert (response.status_code, response.json()["error_type"]) == (429, "overloaded")
        assert response.headers["retry-after"] == "1"


async def test_an_engine_that_dies_in_a_stream_is_told_in_its_form(app: FastAPI, engine: FakeEngine) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, "/generate_stream", {"inputs": "hi"}) as request:
        while not engine.generations:
            await asyncio.sleep(0.001)
        assert await request.status() == 200
        engine.die()
        [error] = tokens(await request.text())
    assert set(error) == {"error", "error_type"}
