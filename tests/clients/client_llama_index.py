"""llama-index's openai-like: chat, streamed chat, completion."""

import os

import pytest

openai_like = pytest.importorskip("llama_index.llms.openai_like")


def test_chat_stream_and_completion():
    from llama_index.core.llms import ChatMessage

    url = os.environ["HOTSEAT_URL"] + "/v1"
    llm = openai_like.OpenAILike(
        model="auto", api_base=url, api_key="none", is_chat_model=True, temperature=0, max_tokens=20
    )
    messages = [ChatMessage(role="user", content="What is 5 km in metres?")]
    whole = llm.chat(messages).message.content
    assert whole
    assert "".join(part.delta or "" for part in llm.stream_chat(messages)) == whole
    raw = openai_like.OpenAILike(model="nano", api_base=url, api_key="none", is_chat_model=False, max_tokens=5)
    assert raw.complete("once").text
