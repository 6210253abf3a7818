"""OpenAI's client of whichever major release the environment has; the suite itself runs the current one."""

import asyncio
import os

import pytest

openai = pytest.importorskip("openai")
from pydantic import BaseModel  # noqa: E402

MESSAGES = [{"role": "user", "content": "What is 5 km in metres?"}]
OPTIONS = {"api_key": "none", "max_retries": 0}


class Pet(BaseModel):
    is_tame: bool
    is_old: bool


def client():
    return openai.OpenAI(base_url=os.environ["HOTSEAT_URL"] + "/v1", **OPTIONS)


def test_an_answer_and_its_streams_are_the_same():
    whole = client().chat.completions.create(model="auto", messages=MESSAGES, temperature=0)
    text = whole.choices[0].message.content
    chunks = client().chat.completions.create(model="auto", messages=MESSAGES, temperature=0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text

    async def streamed():
        asynchronous = openai.AsyncOpenAI(base_url=os.environ["HOTSEAT_URL"] + "/v1", **OPTIONS)
        stream = await asynchronous.chat.completions.create(model="auto", messages=MESSAGES, temperature=0, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert asyncio.run(streamed()) == text


def test_an_object_is_parsed():
    reply = client().chat.completions.parse(model="auto", messages=MESSAGES, max_tokens=200, response_format=Pet)
    assert isinstance(reply.choices[0].message.parsed, Pet)


def test_a_tool_that_must_be_called_is_called():
    tool = openai.pydantic_function_tool(Pet)
    reply = client().chat.completions.create(
        model="auto", messages=MESSAGES, max_tokens=200, tools=[tool], tool_choice="required"
    )
    assert reply.choices[0].message.tool_calls[0].function.name == "Pet"


def test_a_wrong_field_is_a_bad_request_that_names_it():
    with pytest.raises(openai.BadRequestError) as fault:
        client().chat.completions.create(model="auto", messages=MESSAGES, temperature=9)
    assert fault.value.param == "temperature"
