"""`/v1/completions`, `/v1/models`, `/tokenize`, `/detokenize`."""

from typing import Any

import httpx
import pytest

from tests.fakes import FakeEngine
from tests.unit.server.events import events

PATH = "/v1/completions"


async def ask(client: httpx.AsyncClient, **fields: object) -> Any:
    response = await client.post(PATH, json={"model": "tiny", **fields})
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_text_goes_on_as_it_is(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    reply = await ask(client, prompt="once")
    assert bytes(engine.requests[0].prompt_ids) == b"once"
    assert reply["object"] == "text_completion" and reply["id"].startswith("cmpl-")
    choice = {"index": 0, "text": "base: once", "logprobs": None, "finish_reason": "stop", "problems": None}
    assert reply["choices"] == [choice]
    assert reply["usage"]["total_tokens"] == 14


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ([104, 105], ["hi"]),
        (["a", "b"], ["a", "b"]),
        ([[97], [98, 99]], ["a", "bc"]),
    ],
)
async def test_prompts_may_be_texts_or_ids_one_or_several(
    prompt: object, texts: list[str], client: httpx.AsyncClient
) -> None:
    reply = await ask(client, prompt=prompt)
    assert [choice["text"] for choice in reply["choices"]] == [f"base: {text}" for text in texts]


async def test_choices_are_numbered_through_all_prompts(client: httpx.AsyncClient) -> None:
    reply = await ask(client, prompt=["a", "b"], n=2, best_of=2)
    assert [(choice["index"], choice["text"]) for choice in reply["choices"]] == [
        (0, "base: a"),
        (1, "base: a"),
        (2, "base: b"),
        (3, "base: b"),
    ]


async def test_echo_begins_with_the_prompt_whole_and_streamed(client: httpx.AsyncClient) -> None:
    assert (await ask(client, prompt="hi", echo=True))["choices"][0]["text"] == "hibase: hi"
    body = {"model": "tiny", "prompt": "hi", "echo": True, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = events((await client.post(PATH, json=body)).text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == "hibase: hi"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"
    assert (usage["choices"], usage["usage"]["completion_tokens"], done) == ([], 8, "[DONE]")


async def test_logprobs_are_lists_side_by_side_with_offsets(client: httpx.AsyncClient) -> None:
    fields = {"prompt": "x", "logprobs": 1, "max_tokens": 2}
    told = (await ask(client, **fields))["choices"][0]["logprobs"]
    assert told == {
        "tokens": ["b", "a"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"b": -0.5}, {"a": -0.5}],
        "text_offset": [0, 1],
    }
    *chunks, _ = events((await client.post(PATH, json={"model": "tiny", "stream": True, **fields})).text)
    streamed = [chunk["choices"][0]["logprobs"] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    assert [offset for each in streamed for offset in each["text_offset"]] == told["text_offset"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": ""},
        {"prompt": []},
        {"prompt": [""]},
        {"prompt": [1, "a"]},
        {"prompt": [-1]},
        {"prompt": [256]},
        {"prompt": [True]},
        {"prompt": ["a"] * 9},
        {"prompt": ["a", "b"], "n": 5},
        {"prompt": ["a", "b"], "stream": True},
        {"prompt": "a", "suffix": "b"},
        {"prompt": "a", "echo": True, "logprobs": 0},
        {"prompt": "a", "best_of": 2},
        {},
    ],
)
async def test_what_is_not_served_is_refused(fields: dict[str, object], client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json={"model": "tiny", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_the_models_are_the_base_the_router_and_the_experts_that_fit(client: httpx.AsyncClient) -> None:
    cards = {card["id"]: card for card in (await client.get("/v1/models")).json()["data"]}
    assert list(cards) == ["tiny", "auto", "free", "json", "sql"]
    assert cards["sql"]["object"] == "model" and cards["sql"]["root"] == "sql@1.2.3"
    assert (cards["tiny"]["parent"], cards["sql"]["parent"]) == (None, "tiny")
    for name in ("sql", "tiny:sql", "tiny", "auto"):
        assert (await client.get(f"/v1/models/{name}")).json()["id"] == name.removeprefix("tiny:")
    missing = await client.get("/v1/models/foreign")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_text_becomes_ids_and_ids_text(client: httpx.AsyncClient) -> None:
    tokens = (await client.post("/tokenize", json={"prompt": "hé", "return_token_strs": True})).json()
    assert tokens["tokens"] == list("hé".encode()) and tokens["count"] == 3
    assert tokens["token_strs"][0] == "h" and tokens["max_model_len"] == 1 << 20
    assert (await client.post("/detokenize", json={"tokens": tokens["tokens"]})).json() == {"prompt": "hé"}
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert (await client.post("/tokenize", json={"messages": messages})).json()["tokens"] == list(b"s\nu")
    assert (await client.post("/detokenize", json={"tokens": []})).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tokenize", {}),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}),
        ("/detokenize", {"tokens": [256]}),
        ("/detokenize", {"tokens": [-1]}),
        ("/detokenize", {"tokens": "a"}),
    ],
)
async def test_what_has_no_tokens_is_refused(path: str, body: dict[str, object], client: httpx.AsyncClient) -> None:
    assert (await client.post(path, json=body)).status_code == 400
