"""OpenAI's own client against the running server with the embedded base."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from server.services import build_services
from server.settings import Settings
from tests.live import live_server

MESSAGES: Any = [{"role": "user", "content": "Reply to this as a label: my invoice is wrong"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Porto", "Faro"]}, "days": {"type": "integer"}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


class Singer(BaseModel):
    name: str
    is_alive: bool
    genre: list[str]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(cache_dir=tmp_path_factory.mktemp("cache"), threads=1)
    with live_server(build_services(settings)) as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def test_models_are_listed_and_retrieved(client: OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert {"auto", "sql", "units"} <= set(names)
    assert client.models.retrieve("sql").id == "sql"


def test_a_chat_completion_is_the_same_whole_and_streamed(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="auto", messages=MESSAGES, seed=1, temperature=0.7)
    chunks = list(
        client.chat.completions.create(
            model="auto",
            messages=MESSAGES,
            seed=1,
            temperature=0.7,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *deltas, last = chunks
    assert "".join(c.choices[0].delta.content or "" for c in deltas) == whole.choices[0].message.content
    assert last.choices == [] and last.usage and whole.usage
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert whole._request_id


def test_several_answers_with_scores(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="nano",
        messages=MESSAGES,
        n=3,
        temperature=1.0,
        seed=4,
        logprobs=True,
        top_logprobs=2,
        max_completion_tokens=6,
        extra_body={"ignore_eos": True},
    )
    assert len({choice.message.content for choice in reply.choices}) > 1
    for choice in reply.choices:
        assert choice.logprobs is not None and choice.logprobs.content is not None
        assert len(choice.logprobs.content) == 6
        told = b"".join(bytes(score.bytes or ()) for score in choice.logprobs.content)
        assert told.decode(errors="replace") == choice.message.content
        assert all(len(score.top_logprobs) == 2 for score in choice.logprobs.content)


def test_parse_gives_an_object_of_the_class(client: OpenAI) -> None:
    reply = client.chat.completions.parse(
        model="nano",
        messages=MESSAGES,
        response_format=Singer,
        temperature=0.8,
        seed=2,
        max_tokens=400,
        stop=None,
    )
    choice = reply.choices[0]
    if choice.finish_reason == "stop":
        assert isinstance(choice.message.parsed, Singer)
    else:  # an endless string of a tiny base
        assert choice.finish_reason == "length"


def test_a_required_tool_is_called_with_arguments_of_its_schema(client: OpenAI) -> None:
    reply = client.chat.completions.create(
        model="nano",
        messages=MESSAGES,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=200,
    )
    choice = reply.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.tool_calls
    [call] = choice.message.tool_calls
    assert call.type == "function" and call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in ("Porto", "Faro") and isinstance(arguments["days"], int)


def test_a_streamed_tool_call_adds_up(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="nano",
        messages=MESSAGES,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        max_tokens=200,
    ) as stream:
        final = stream.get_final_completion()
    [call] = final.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments)["city"] in ("Porto", "Faro")


def test_an_earlier_call_and_its_result_are_read(client: OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Faro"}'}}
    messages: Any = [
        *MESSAGES,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
    ]
    reply = client.chat.completions.create(model="nano", messages=messages, tools=[WEATHER], max_tokens=8)
    assert reply.usage and reply.usage.completion_tokens <= 8


def test_completions_go_on_with_text_and_with_ids(client: OpenAI) -> None:
    reply = client.completions.create(model="nano", prompt=["once", "twice"], max_tokens=4, logprobs=1)
    assert [choice.index for choice in reply.choices] == [0, 1]
    ids = client.completions.create(model="nano", prompt=[5, 6, 7], max_tokens=4, echo=True)
    assert ids.choices[0].text


def test_a_response_is_the_same_whole_and_streamed(client: OpenAI) -> None:
    whole = client.responses.create(model="auto", input="What is 5 km in metres?", max_output_tokens=20)
    events = list(
        client.responses.create(model="auto", input="What is 5 km in metres?", max_output_tokens=20, stream=True)
    )
    final = events[-1]
    assert final.type in ("response.completed", "response.incomplete")
    assert final.response.output_text == whole.output_text


def test_a_structured_response_is_parsed(client: OpenAI) -> None:
    class Vote(BaseModel):
        yes: bool

    parsed = client.responses.parse(model="nano", input="Yes?", text_format=Vote, max_output_tokens=30)
    assert isinstance(parsed.output_parsed, Vote)


def test_errors_become_the_clients_own(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="nano", messages=MESSAGES, temperature=9)
    assert bad.value.param == "temperature"


async def test_the_asynchronous_client_streams(url: str) -> None:
    async with AsyncOpenAI(base_url=url, api_key="none") as client:
        stream: Any = await client.chat.completions.create(
            model="auto",
            messages=MESSAGES,
            stream=True,
            max_tokens=8,
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text
