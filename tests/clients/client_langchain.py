"""langchain-openai: an answer, a stream, a structured answer, a tool that must be called."""

import os

import pytest

langchain = pytest.importorskip("langchain_openai")
from pydantic import BaseModel  # noqa: E402


class Vote(BaseModel):
    """A vote."""

    yes: bool
    colour: str


def model(**options):
    url = os.environ["HOTSEAT_URL"] + "/v1"
    return langchain.ChatOpenAI(model="auto", base_url=url, api_key="none", max_retries=0, **options)


def test_an_answer_and_a_stream_are_the_same():
    chat = model(temperature=0)
    whole = chat.invoke("What is 5 km in metres?")
    assert whole.content and whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.content for chunk in chat.stream("What is 5 km in metres?")) == whole.content


def test_a_structured_answer_is_an_object():
    try:
        vote = model(max_tokens=200).with_structured_output(Vote, method="json_schema").invoke("Yes or no?")
    except Exception as error:  # a tiny base may never end its string
        assert "length" in str(error).lower()
    else:
        assert isinstance(vote, Vote)


def test_a_tool_that_must_be_called_is_called():
    bound = model(max_tokens=200).bind_tools([Vote], tool_choice="Vote")
    reply = bound.invoke("Yes or no?")
    assert reply.tool_calls[0]["name"] == "Vote" or reply.invalid_tool_calls
