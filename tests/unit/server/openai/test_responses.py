"""`/v1/responses`: input, output items, events, and what needs a state refused."""

import json
from typing import Any

import httpx
import pytest

from engine.request import Thinking
from tests.fakes import ByteTokenizer, FakeCompiler, FakeEngine

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
CALL = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'


def named_events(text: str) -> list[Any]:
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert found[-1]["type"] == name.removeprefix("event: ")
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


async def ask(client: httpx.AsyncClient, **fields: object) -> Any:
    response = await client.post(PATH, json={"model": "tiny", **fields})
    assert response.status_code == 200, response.text
    return response.json()


async def test_text_in_an_output_message_out(client: httpx.AsyncClient) -> None:
    reply = await ask(client, input="hi", instructions="be brief")
    assert (reply["object"], reply["status"], reply["model"]) == ("response", "completed", "tiny")
    [item] = reply["output"]
    assert item["content"][0]["text"] == "base: be brief\nhi"
    assert reply["usage"]["total_tokens"] == reply["usage"]["input_tokens"] + reply["usage"]["output_tokens"]


async def test_items_are_turns_calls_and_results(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "q"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "r"},
    ]
    await ask(client, input=items)
    expected = f"q\n{CALL}\n{CALL}\n<tool_response>\nr\n</tool_response>"
    assert bytes(engine.requests[0].prompt_ids).decode() == expected


async def test_an_answer_that_was_cut_off_is_incomplete(client: httpx.AsyncClient) -> None:
    reply = await ask(client, input="hi", max_output_tokens=3)
    assert (reply["status"], reply["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize("kind", ["json_object", "json_schema", "text"])
async def test_the_format_holds_the_answer(kind: str, client: httpx.AsyncClient, compiler: FakeCompiler) -> None:
    text = {"format": {"type": kind, "name": "x", "schema": {"enum": [1]}}}
    await ask(client, input="hi", text=text)
    assert len(compiler.compiled) == (kind != "text")


async def test_calls_are_items(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.rule = lambda *_: f"Hm.{CALL}"
    reply = await ask(client, input="hi", tools=[TOOL], max_output_tokens=500)
    message, call = reply["output"]
    assert message["content"][0]["text"] == "Hm."
    assert (call["type"], call["name"], call["arguments"]) == ("function_call", "f", "{}")


async def test_a_stream_opens_and_closes_each_item(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.rule = lambda *_: f"Hm.{CALL}"
    body = {"model": "tiny", "input": "hi", "tools": [TOOL], "stream": True, "max_output_tokens": 500}
    events = named_events((await client.post(PATH, json=body)).text)
    kinds = [event["type"] for event in events if not event["type"].endswith("delta")]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == "Hm." == events[-1]["response"]["output"][0]["content"][0]["text"]
    assert events[-1]["response"]["output"][1]["arguments"] == "{}"


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"store": True},
        {"background": True},
        {"conversation": "c"},
        {"truncation": "auto"},
        {"n": 2},
        {"tools": [{"type": "web_search"}]},
        {"input": []},
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "name": "g"}, "tools": [TOOL]},
        {"tools": [TOOL, TOOL]},
        {"tools": [TOOL], "grammar": "json"},
        {"input": ""},
        {"input": [{"type": "reasoning", "id": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"input": [{"type": "function_call", "call_id": "1"}]},
        {"text": {"format": {"type": "json_schema", "name": "x"}}},
    ],
)
async def test_what_needs_a_state_or_is_not_served_is_refused(
    fields: dict[str, object], client: httpx.AsyncClient
) -> None:
    response = await client.post(PATH, json={"model": "tiny", "input": "hi", **fields})
    assert response.status_code == 400
    assert response.json()["error"]["message"]


async def test_what_the_model_thinks_is_counted_and_not_shown(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    """Templates that open the thinking do so unasked."""
    engine.rule = lambda _prompt, _experts: "hm>it is 4"
    thinking = Thinking(ord("<"), ord(">"), (), (), 9, is_open=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ByteTokenizer, "thinking", lambda *_: thinking)
        whole = (await client.post("/v1/responses", json={"input": "2+2?"})).json()
        streamed = (await client.post("/v1/responses", json={"input": "2+2?", "stream": True})).text
    assert [part["text"] for part in whole["output"][0]["content"]] == ["it is 4"]
    assert whole["usage"]["output_tokens_details"] == {"reasoning_tokens": 3}
    assert "hm" not in streamed and '"reasoning_tokens":3' in streamed
