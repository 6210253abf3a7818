"""litellm: an answer and a stream through its OpenAI provider."""

import os

import pytest

litellm = pytest.importorskip("litellm")
MESSAGES = [{"role": "user", "content": "What is 5 km in metres?"}]


def ask(**options):
    url = os.environ["HOTSEAT_URL"] + "/v1"
    return litellm.completion(
        model="openai/auto", api_base=url, api_key="none", messages=MESSAGES, temperature=0, max_retries=0, **options
    )


def test_an_answer_and_a_stream_are_the_same():
    whole = ask()
    assert whole.choices[0].message.content and whole.usage.completion_tokens
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in ask(stream=True)) == whole.choices[0].message.content
    )


def test_an_error_is_its_own():
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(
            model="openai/gpt-4o",
            api_base=os.environ["HOTSEAT_URL"] + "/v1",
            api_key="none",
            messages=MESSAGES,
            max_retries=0,
        )
