"""Thinking in the chat form: a member of its own, whole and streamed, for every answer, and counted."""

from collections import defaultdict
from typing import Any

import httpx
import pytest

from engine.request import SamplingParams, Thinking
from tests.fakes import ByteTokenizer, FakeEngine
from tests.unit.server.events import events

PATH = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "2+2?"}], "chat_template_kwargs": {"enable_thinking": True}}


@pytest.fixture
def thinker(engine: FakeEngine) -> FakeEngine:
    engine.rule = lambda _prompt, _experts: "\nhm\n>it is 4"
    return engine


async def ask(client: httpx.AsyncClient, **fields: object) -> Any:
    response = await client.post(PATH, json={**BODY, **fields})
    assert response.status_code == 200, response.text
    return response.json()


async def streamed(client: httpx.AsyncClient, **fields: object) -> list[Any]:
    *chunks, done = events((await client.post(PATH, json={**BODY, "stream": True, **fields})).text)
    assert done == "[DONE]"
    return chunks


@pytest.mark.usefixtures("thinker")
async def test_thoughts_are_the_messages_reasoning_and_are_counted(client: httpx.AsyncClient) -> None:
    reply = await ask(client, stop="hm", logprobs=True)
    [choice] = reply["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", "it is 4")
    assert "".join(token["token"] for token in choice["logprobs"]["content"]) == "it is 4"
    assert reply["usage"]["completion_tokens"] == 12
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 5}


@pytest.mark.usefixtures("thinker")
async def test_every_answer_has_thoughts_of_its_own(client: httpx.AsyncClient) -> None:
    reply = await ask(client, n=3)
    assert [choice["message"]["reasoning_content"] for choice in reply["choices"]] == ["hm"] * 3
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["it is 4"] * 3
    assert reply["usage"]["completion_tokens_details"] == {"reasoning_tokens": 15}


@pytest.mark.usefixtures("thinker")
@pytest.mark.parametrize("n", [1, 2])
async def test_thoughts_are_streamed_before_the_answer(n: int, client: httpx.AsyncClient) -> None:
    *chunks, counted = await streamed(client, n=n, stream_options={"include_usage": True})
    told: dict[tuple[int, str], str] = defaultdict(str)
    for chunk in chunks:
        [choice] = chunk["choices"]
        index = choice["index"]
        for member, text in choice["delta"].items():
            assert not (member == "reasoning_content" and told[index, "content"])
            told[index, member] += text
    assert [told[index, "reasoning_content"] for index in range(n)] == ["hm"] * n
    assert [told[index, "content"] for index in range(n)] == ["it is 4"] * n
    assert counted["usage"]["completion_tokens_details"] == {"reasoning_tokens": 5 * n}


@pytest.mark.usefixtures("thinker")
async def test_a_count_in_every_chunk_never_falls_and_ends_at_the_whole(client: httpx.AsyncClient) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    counts = [chunk["usage"] for chunk in await streamed(client, stream_options=options)]
    told = [(each["completion_tokens"], each["completion_tokens_details"]["reasoning_tokens"]) for each in counts]
    assert told == sorted(told) and told[-1] == (12, 5)


async def test_the_budget_reaches_the_engine(client: httpx.AsyncClient, thinker: FakeEngine) -> None:
    await ask(client, thinking_budget=9)
    assert thinker.requests[0].thinking == Thinking(ord("<"), ord(">"), (), (), 9, is_open=True)


async def test_without_a_limit_of_its_own_a_request_thinks_beside_the_answers_limit(
    client: httpx.AsyncClient, thinker: FakeEngine
) -> None:
    await ask(client)
    request = thinker.requests[0]
    assert request.thinking is not None and request.thinking.budget == 512
    assert request.sampling.max_tokens == SamplingParams().max_tokens + request.thinking.longest


async def test_a_limit_that_was_asked_for_counts_both_and_half_of_it_is_thinking(
    client: httpx.AsyncClient, thinker: FakeEngine
) -> None:
    await ask(client, max_tokens=40)
    request = thinker.requests[0]
    assert request.thinking is not None
    assert (request.thinking.budget, request.sampling.max_tokens) == (20, 40)


@pytest.mark.parametrize("kwargs", [None, {}, {"enable_thinking": False}])
async def test_nobody_thinks_unasked(kwargs: object, client: httpx.AsyncClient, engine: FakeEngine) -> None:
    reply = await ask(client, chat_template_kwargs=kwargs)
    assert reply["choices"][0]["message"]["reasoning_content"] is None
    assert engine.requests[0].thinking is None


async def test_a_budget_without_thinking_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json={"messages": BODY["messages"], "thinking_budget": 5})
    assert response.status_code == 400 and "enable_thinking" in response.json()["error"]["message"]


async def test_a_base_that_cannot_think_says_so(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteTokenizer, "can_think", False)
    response = await client.post(PATH, json=BODY)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "thinking_unsupported")


@pytest.mark.usefixtures("thinker")
async def test_generate_streams_the_thoughts_of_several_answers_with_their_index(client: httpx.AsyncClient) -> None:
    body = {"prompt": "2+2?", "enable_thinking": True, "n": 2}
    whole = (await client.post("/generate", json=body)).json()
    assert [(each["thinking"], each["text"]) for each in whole["answers"]] == [("hm", "it is 4")] * 2
    assert whole["usage"]["thinking_tokens"] == 10
    *chunks, summary, _ = events((await client.post("/generate", json={**body, "stream": True})).text)
    for index in range(2):
        assert "".join(each.get("thinking", "") for each in chunks if each["index"] == index) == "hm"
        assert "".join(each.get("text", "") for each in chunks if each["index"] == index) == "it is 4"
    assert all(not {"text", "thinking"} & set(answer) for answer in summary["answers"])


async def test_a_raw_prompt_does_not_think(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    response = await client.post("/generate", json={"prompt": "2+2?", "raw": True, "enable_thinking": True})
    assert response.status_code == 400
    await client.post("/generate", json={"prompt": list(b"2+2?<")})
    assert engine.requests[0].thinking is None
