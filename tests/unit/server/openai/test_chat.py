"""`/v1/chat/completions`: fields, names of models, streams, several answers, refusals."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.request import SamplingParams
from tests.asgi import OpenRequest
from tests.fakes import FakeCompiler, FakeEngine
from tests.unit.server.events import events

PATH = "/v1/chat/completions"
USER = [{"role": "user", "content": "hello"}]


async def ask(client: httpx.AsyncClient, **fields: object) -> Any:
    response = await client.post(PATH, json={"messages": USER, **fields})
    assert response.status_code == 200, response.text
    return response.json()


async def refused(client: httpx.AsyncClient, **fields: object) -> tuple[int, Any]:
    response = await client.post(PATH, json={"messages": USER, **fields})
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    return response.status_code, response.json()["error"]


async def test_a_completion_has_the_members_that_clients_read(client: httpx.AsyncClient) -> None:
    reply = await ask(client, model="sql")
    assert reply["object"] == "chat.completion" and reply["id"].startswith("chatcmpl-")
    assert reply["model"] == "sql" and reply["system_fingerprint"] == "fp_000000000000"
    assert reply["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "reasoning_content": None,
                "content": "sql: hello",
                "refusal": None,
                "tool_calls": None,
            },
            "logprobs": None,
            "finish_reason": "stop",
            "problems": None,
        }
    ]
    assert reply["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 10,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert reply["hotseat"]["experts"][0]["name"] == "sql"


@pytest.mark.parametrize(
    ("model", "content", "experts"),
    [
        ("tiny", "count in SQL", ""),
        ("auto", "count in SQL", "sql"),
        ("tiny:auto", "count in SQL", "sql"),
        ("auto", "hello", ""),
        ("sql", "hello", "sql"),
        ("tiny:json", "hello", "json"),
    ],
)
async def test_model_names_the_base_the_router_or_an_expert(
    model: str, content: str, experts: str, client: httpx.AsyncClient
) -> None:
    reply = await ask(client, model=model, messages=[{"role": "user", "content": content}])
    assert reply["choices"][0]["message"]["content"] == f"{experts or 'base'}: {content}"


async def test_experts_and_weights_make_a_mixture(client: httpx.AsyncClient) -> None:
    reply = await ask(client, model="tiny", experts=["sql", "json"], weights={"json": 0.5})
    used = {expert["name"]: expert["weight"] for expert in reply["hotseat"]["experts"]}
    assert used == {"sql": 1.0, "json": 0.5}


@pytest.mark.parametrize("model", ["gpt-4o", "tiny:nobody", "other:sql", "../sql", "", "x" * 200, "tiny:"])
async def test_a_model_that_is_not_there_is_a_404_that_names_the_field(model: str, client: httpx.AsyncClient) -> None:
    status, error = await refused(client, model=model)
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("model", ["auto", "tiny", "tiny:auto"])
@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/responses"])
async def test_an_expert_that_is_not_there_is_no_fault_of_the_model(
    path: str, model: str, client: httpx.AsyncClient
) -> None:
    text = {"messages": USER} if path == PATH else {"prompt": "x"} if path == "/v1/completions" else {"input": "x"}
    response = await client.post(path, json=text | {"model": model, "experts": ["nope"]})
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (404, "expert_not_found", "experts")
    assert error["message"].startswith("there is no expert 'nope'; known experts: ")


async def test_every_sampling_field_reaches_the_engine(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    await ask(
        client,
        model="tiny",
        temperature=0.5,
        top_p=0.9,
        top_k=-1,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=-0.3,
        logit_bias={"65": -100, "66": 1.5},
        seed=-7,
        max_tokens=11,
        max_completion_tokens=9,
        min_tokens=2,
        stop_token_ids=[10],
        ignore_eos=True,
        logprobs=True,
        top_logprobs=2,
        cache_salt="me",
    )
    assert engine.requests[0].sampling == SamplingParams(
        temperature=0.5,
        top_p=0.9,
        top_k=0,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=-0.3,
        logit_bias=((65, -100), (66, 1.5)),
        seed=-7,
        max_tokens=9,
        min_tokens=2,
        stop_ids=(10,),
        ignore_eos=True,
        logprobs=2,
    )
    assert engine.requests[0].salt == "\nme"


async def test_null_is_as_good_as_left_out(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    names = "temperature top_p n stop seed logprobs top_logprobs response_format tools tool_choice stream logit_bias"
    await ask(client, model="tiny", **dict.fromkeys(names.split()), user=None, stream_options=None)
    assert engine.requests[0].sampling == SamplingParams()


async def test_fields_without_effect_and_unknown_ones_are_passed_over(client: httpx.AsyncClient) -> None:
    reply = await ask(client, user="u", metadata={"a": "b"}, store=False, service_tier="auto", surprise=[1, {}])
    assert reply["choices"][0]["finish_reason"] == "stop"
    metrics = (await client.get("/metrics")).text
    assert 'hotseat_unknown_fields_total{route="/v1/chat/completions"} 1.0' in metrics


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": "hello"}, "messages"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"n": 0}, "n"),
        ({"n": 9}, "n"),
        ({"n": 10**30}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"presence_penalty": 2.1}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"stop": ""}, "stop"),
        ({"stop": ["x"] * 9}, "stop"),
        ({"logit_bias": {"65": 101}}, "logit_bias"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"max_experts": 11}, "max_experts"),
        ({"stream": "yes"}, "stream"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs.tokenize"),
        ({"chat_template_kwargs": {"enable_thinking": "yes"}}, "chat_template_kwargs.enable_thinking"),
    ],
)
async def test_a_field_of_a_wrong_type_or_out_of_its_bounds_is_named(
    fields: dict[str, object], param: str, client: httpx.AsyncClient
) -> None:
    status, error = await refused(client, **fields)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)


@pytest.mark.parametrize(
    "fields",
    [
        {"functions": [{"name": "f"}]},
        {"function_call": {"name": "f"}},
        {"audio": {"voice": "x"}},
        {"modalities": ["text", "audio"]},
        {"chat_template": "{{ 1 }}"},
        {"continue_final_message": True},
        {"add_generation_prompt": False},
        {"prompt_logprobs": 1},
        {"use_beam_search": True},
        {"top_logprobs": 2},
        {"stream_options": {"include_usage": True}},
        {"tool_choice": "required"},
    ],
)
async def test_what_would_change_the_answer_and_is_not_served_is_refused_by_name(
    fields: dict[str, object], client: httpx.AsyncClient
) -> None:
    status, error = await refused(client, **fields)
    assert status == 400
    assert next(iter(fields)) in error["message"]


async def test_content_may_be_a_list_of_texts_and_a_developer_is_a_system(client: httpx.AsyncClient) -> None:
    messages = [
        {"role": "developer", "content": "brief", "name": "d"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]
    reply = await ask(client, model="tiny", messages=messages)
    assert reply["choices"][0]["message"]["content"] == "base: brief\nab"


async def test_a_picture_is_refused(client: httpx.AsyncClient) -> None:
    part = {"type": "image_url", "image_url": {"url": "http://x"}}
    status, error = await refused(client, messages=[{"role": "user", "content": [part]}])
    assert status == 400 and "only parts of type 'text'" in error["message"]


async def test_several_answers_have_seeds_of_their_own_and_one_prompt(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    reply = await ask(client, model="tiny", n=3, seed=5)
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2]
    assert [request.sampling.seed for request in engine.requests] == [5, 6, 7]
    assert (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]) == (5, 33)


async def test_logprobs_tell_bytes_and_alternatives(client: httpx.AsyncClient) -> None:
    reply = await ask(client, model="tiny", logprobs=True, top_logprobs=1, max_tokens=1)
    assert reply["choices"][0]["logprobs"]["content"] == [
        {
            "token": "b",
            "logprob": -0.5,
            "bytes": [98],
            "top_logprobs": [{"token": "b", "logprob": -0.5, "bytes": [98]}],
        }
    ]


async def test_a_stream_is_a_role_then_text_then_a_reason_then_its_end(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json={"messages": USER, "model": "tiny", "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    opening, *chunks, last, done = events(response.text)
    assert done == "[DONE]"
    assert opening["object"] == "chat.completion.chunk"
    assert opening["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == "base: hello"
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in (opening, *chunks, last)}) == 1
    assert "usage" not in opening


async def test_usage_comes_in_a_chunk_without_choices_and_is_null_before(client: httpx.AsyncClient) -> None:
    body = {"messages": USER, "model": "tiny", "stream": True, "stream_options": {"include_usage": True}}
    *chunks, usage, done = events((await client.post(PATH, json=body)).text)
    assert done == "[DONE]" and usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 11
    assert all(chunk["usage"] is None for chunk in chunks)


async def test_usage_may_come_with_every_chunk(client: httpx.AsyncClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"messages": USER, "model": "tiny", "stream": True, "stream_options": options}
    *chunks, _ = events((await client.post(PATH, json=body)).text)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts) and (counts[0], counts[-1]) == (0, 11)


async def test_tokens_that_come_together_share_a_chunk_with_all_their_scores(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.num_at_once = 4
    body = {"messages": USER, "model": "tiny", "stream": True}
    plain = events((await client.post(PATH, json=body)).text)
    scored = events((await client.post(PATH, json=body | {"logprobs": True})).text)
    texts = [[chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:-2]] for chunks in (plain, scored)]
    assert texts[0] == texts[1] and {len(text) for text in texts[0][:-1]} == {4}
    scores = [len(chunk["choices"][0]["logprobs"]["content"]) for chunk in scored[1:-2]]
    assert scores == [len(text) for text in texts[1]]


async def test_the_answers_of_a_stream_are_told_apart_and_each_has_its_end(client: httpx.AsyncClient) -> None:
    body = {"messages": USER, "model": "tiny", "stream": True, "n": 3, "logprobs": True}
    *chunks, _ = events((await client.post(PATH, json=body)).text)
    choices = [chunk["choices"][0] for chunk in chunks]
    for index in range(3):
        mine = [choice for choice in choices if choice["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "base: hello"
        assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == ["stop"]
        scores = [score for choice in mine for score in (choice["logprobs"] or {"content": []})["content"]]
        assert "".join(score["token"] for score in scores) == "base: hello"
    order = [choice["index"] for choice in choices if choice["delta"].get("content")]
    assert order != sorted(order)


async def test_a_character_of_several_tokens_comes_whole_with_all_their_scores(client: httpx.AsyncClient) -> None:
    messages = [{"role": "user", "content": "é🙂"}]
    body = {"messages": messages, "model": "tiny", "stream": True, "logprobs": True}
    *chunks, _ = events((await client.post(PATH, json=body)).text)
    deltas = [chunk["choices"][0] for chunk in chunks]
    texts = [choice["delta"].get("content") for choice in deltas]
    assert "é" in texts and "🙂" in texts and not any("\ufffd" in (text or "") for text in texts)
    smile = next(choice for choice in deltas if choice["delta"].get("content") == "🙂")
    assert [score["bytes"] for score in smile["logprobs"]["content"]] == [[byte] for byte in "🙂".encode()]


@pytest.mark.parametrize("is_shown", [False, True])
async def test_a_stop_string_never_shows_unless_it_is_asked_for(is_shown: bool, client: httpx.AsyncClient) -> None:
    fields = {"model": "tiny", "stop": ["llo", "xx"], "include_stop_str_in_output": is_shown, "logprobs": True}
    whole = (await ask(client, **fields))["choices"][0]
    text = "base: hello" if is_shown else "base: he"
    assert (whole["message"]["content"], whole["finish_reason"]) == (text, "stop")
    assert "".join(score["token"] for score in whole["logprobs"]["content"]) == text
    *chunks, _ = events((await client.post(PATH, json={"messages": USER, "stream": True, **fields})).text)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == text


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("n", [1, 4])
async def test_a_client_that_leaves_stops_all_its_rows(
    n: int, is_stream: bool, app: FastAPI, engine: FakeEngine
) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, PATH, {"messages": USER, "n": n, "stream": is_stream}) as request:
        while len(engine.generations) < n:
            await asyncio.sleep(0.001)
        request.disconnect()
        await asyncio.wait_for(request.task, 5)
    assert all(generation.is_cancelled for generation in engine.generations)
    assert engine.num_running == 0


async def test_answers_that_do_not_all_fit_in_the_queue_are_all_refused(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.max_submitted = 2
    response = await client.post(PATH, json={"messages": USER, "n": 3})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert len(engine.generations) == 2
    assert all(generation.is_cancelled for generation in engine.generations)


async def test_an_engine_that_dies_in_a_stream_is_told_as_an_event(app: FastAPI, engine: FakeEngine) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, PATH, {"messages": USER, "stream": True, "n": 2}) as request:
        while len(engine.generations) < 2:
            await asyncio.sleep(0.001)
        assert await request.status() == 200
        opening = ""
        while opening.count("assistant") < 2:
            opening += await request.text()
        engine.die()
        [error] = events(await request.text())
    assert error["error"]["code"] == "engine_stopped"


@pytest.mark.parametrize(
    ("fields", "gbnf"),
    [
        ({"response_format": {"type": "json_object"}}, None),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": [1]}}}}, "1"),
        ({"structured_outputs": {"json": {"enum": [1]}}}, "1"),
        ({"structured_outputs": {"regex": "[ab]c"}}, "[ab]"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes"),
        ({"structured_outputs": {"grammar": 'root ::= "hi"'}}, '"hi"'),
        ({"structured_outputs": {"json_object": True}}, None),
        ({"guided_json": {"enum": [1]}}, "1"),
        ({"guided_json": '{"enum": [1]}'}, "1"),
        ({"guided_regex": "[ab]c"}, "[ab]"),
        ({"guided_choice": ["yes", "no"]}, "yes"),
        ({"guided_grammar": 'root ::= "hi"'}, '"hi"'),
        ({"grammar": 'root ::= "hi"'}, '"hi"'),
        ({"grammar": "json_object"}, None),
        ({"grammar": {"choice": ["yes", "no"]}}, "yes"),
        ({"json_schema": {"enum": [1]}}, "1"),
    ],
)
async def test_every_way_to_ask_for_a_form_becomes_a_grammar(
    fields: dict[str, object], gbnf: str | None, client: httpx.AsyncClient, compiler: FakeCompiler
) -> None:
    await ask(client, model="tiny", **fields)
    [compiled] = compiler.compiled
    assert gbnf is None or gbnf in compiled


@pytest.mark.parametrize(("fields", "num_grammars"), [({}, 1), ({"response_format": {"type": "text"}}, 0)])
async def test_an_experts_own_grammar_holds_unless_text_is_asked_for(
    fields: dict[str, object], num_grammars: int, client: httpx.AsyncClient, compiler: FakeCompiler
) -> None:
    await ask(client, model="sql", **fields)
    assert len(compiler.compiled) == num_grammars


@pytest.mark.parametrize(
    "fields",
    [
        {"guided_regex": "a", "guided_choice": ["a"]},
        {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
        {"structured_outputs": {}},
        {"structured_outputs": {"regex": "a", "choice": ["b"]}},
        {"structured_outputs": {"structural_tag": "x"}},
        {"response_format": {"type": "json_schema"}},
        {"guided_choice": []},
        {"guided_json": "{"},
        {"grammar": "no such form!"},
        {"response_format": {"type": "json_object"}, "tools": [{"type": "function", "function": {"name": "f"}}]},
    ],
)
async def test_a_form_that_is_none_or_two_is_refused(fields: dict[str, object], client: httpx.AsyncClient) -> None:
    status, error = await refused(client, **fields)
    assert status == 400 and error["message"]


async def test_a_value_that_was_cut_off_says_that_it_is_incomplete(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.rule = lambda *_: '{"a": 1}'
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}}
    whole = (await ask(client, model="tiny", response_format=form))["choices"][0]
    assert (whole["finish_reason"], whole["problems"]) == ("stop", None)
    cut = (await ask(client, model="tiny", response_format=form, max_tokens=5))["choices"][0]
    assert cut["finish_reason"] == "length"
    assert "incomplete" in cut["problems"][0]
    body = {"messages": USER, "model": "tiny", "response_format": form, "max_tokens": 5, "stream": True}
    *_, last, _ = events((await client.post(PATH, json=body)).text)
    assert last["choices"][0]["problems"] == cut["problems"]


async def test_a_schema_that_cannot_be_held_is_refused_with_its_keyword(client: httpx.AsyncClient) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"typo": 1}}}
    status, error = await refused(client, response_format=form)
    assert (status, error["code"]) == (400, "schema_unsupported")
    assert "typo" in error["message"]


async def test_a_long_silence_is_filled_with_comments(app: FastAPI, engine: FakeEngine, monkeypatch: Any) -> None:
    monkeypatch.setattr("server.streaming.KEEP_ALIVE_SECONDS", 0.02)
    engine.flowing.clear()
    async with OpenRequest(app, PATH, {"messages": USER, "stream": True}) as request:
        assert await request.status() == 200
        while await request.text() != ": keep-alive\n\n":
            pass
        engine.flowing.set()
        while not (text := await request.text()).startswith("data: "):
            pass
    assert json.loads(text.removeprefix("data: "))["choices"][0]["delta"]["content"] == "b"


async def test_thinking_comes_in_a_field_of_its_own_and_is_counted(
    client: httpx.AsyncClient, engine: FakeEngine
) -> None:
    engine.rule = lambda *_: "so>it is 4"
    fields = {"model": "tiny", "chat_template_kwargs": {"enable_thinking": True}, "thinking_budget": 20}
    whole = await ask(client, **fields)
    message = whole["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("so", "it is 4")
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 3
    *chunks, _ = events((await client.post(PATH, json={"messages": USER, "stream": True, **fields})).text)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "so"
    assert "".join(delta.get("content", "") for delta in deltas) == "it is 4"


async def test_who_answered_and_how_long_it_took_is_in_the_head(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json={"messages": USER, "model": "sql"})
    assert response.headers["x-experts"] == "sql" and "total;dur=" in response.headers["server-timing"]
    streamed = await client.post(PATH, json={"messages": USER, "model": "sql", "stream": True})
    assert streamed.headers["x-experts"] == "sql"
