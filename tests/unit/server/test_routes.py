"""The endpoints, in process: whole answers, streams, lists, health."""

import asyncio
import json
import shutil
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from engine.request import Thinking
from server.services import Lifecycle, Services
from tests.asgi import OpenRequest
from tests.fakes import ByteTokenizer, FakeEngine
from tests.unit.server.events import events


async def test_a_reply_holds_what_the_issue_names(client: httpx.AsyncClient) -> None:
    response = await client.post("/generate", json={"prompt": "count in SQL"})
    reply = response.json()
    assert response.status_code == 200
    assert list(reply) == ["id", "text", "finish_reason", "experts", "routing", "usage", "timings"]
    assert reply["experts"] == [{"name": "sql", "version": "1.2.3", "kind": "lora", "weight": 1.0}]
    assert set(reply["routing"]) == {"stage", "reason", "confidence", "scores"}
    assert set(reply["usage"]) == {
        "prompt_tokens",
        "cached_tokens",
        "completion_tokens",
        "thinking_tokens",
        "total_tokens",
    }
    assert set(reply["timings"]) == {"queue_ms", "route_ms", "swap_ms", "first_token_ms", "total_ms"}
    assert (reply["text"], reply["finish_reason"]) == ("sql: count in SQL", "stop")


async def test_a_stream_gives_the_text_then_the_rest_of_the_reply_then_its_end(
    client: httpx.AsyncClient,
) -> None:
    body = {"prompt": "count in SQL", "stream": True}
    response = await client.post("/generate", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, summary, done = events(response.text)
    assert "".join(chunk["text"] for chunk in chunks if isinstance(chunk, dict)) == "sql: count in SQL"
    assert all(isinstance(chunk, dict) and set(chunk) == {"text"} for chunk in chunks)
    assert isinstance(summary, dict)
    whole = (await client.post("/generate", json={**body, "stream": False})).json()
    assert set(summary) == set(whole) - {"text", "thinking"}
    assert summary["usage"] == whole["usage"]
    assert done == "[DONE]"


async def test_a_stream_is_sent_as_it_is_made(app: FastAPI, engine: FakeEngine) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, "/generate", {"prompt": "hi", "stream": True}) as request:
        assert await request.status() == 200
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(request.receive(), 0.05)
        engine.flowing.set()
        assert events(await request.text()) == [{"text": "b"}]
        assert events(await request.text())[0] == {"text": "a"}


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_client_that_leaves_stops_the_work(is_stream: bool, app: FastAPI, engine: FakeEngine) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, "/generate", {"prompt": "hi", "stream": is_stream}) as request:
        while not engine.generations:
            await asyncio.sleep(0.001)
        request.disconnect()
        await asyncio.wait_for(request.task, 5)
    assert engine.generations[0].is_cancelled
    assert engine.num_running == 0


async def test_a_stop_string_ends_a_streamed_answer(client: httpx.AsyncClient) -> None:
    body = {"prompt": "one two three", "stop": [" two", "nine"], "stream": True}
    *chunks, summary, _ = events((await client.post("/generate", json=body)).text)
    assert "".join(chunk["text"] for chunk in chunks if isinstance(chunk, dict)) == "base: one"
    assert isinstance(summary, dict)
    assert summary["finish_reason"] == "stop"


@pytest.mark.parametrize("is_stream", [True, False])
async def test_an_engine_that_dies_mid_answer_is_told_and_never_silent(
    is_stream: bool, app: FastAPI, engine: FakeEngine
) -> None:
    engine.flowing.clear()
    async with OpenRequest(app, "/generate", {"prompt": "hi", "stream": is_stream}) as request:
        while not engine.generations:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        engine.die()
        assert await request.status() == (200 if is_stream else 503)
        text = await request.text()
        error = json.loads(text.removeprefix("data: "))["error"]
    assert error["code"] == "engine_stopped"


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, None),
        ({"prompt": "x", "unknown": 1}, 400, "unknown"),
        ({"prompt": "x", "temperature": 99}, 400, "temperature"),
        ({"prompt": "x", "stop": ["a" * 65]}, 400, "stop[0]"),
        ({"prompt": "x", "experts": [{"name": "sql", "weight": -1}]}, 400, "experts[0].weight"),
        ({"messages": [{"role": "ghost", "content": "x"}]}, 400, "messages[0].role"),
        ({"prompt": "x", "grammar": 'root ::= "a"'}, 400, "grammar"),
        ({"prompt": "x", "grammar": "nope"}, 400, "grammar"),
        ({"prompt": "x", "grammar": {"gbnf": 7}}, 400, "grammar.gbnf"),
        ({"prompt": "x", "grammar": {"choice": ["a", ""]}}, 400, "grammar.choice[1]"),
        ({"prompt": "x", "grammar": {"choice": ["a\0"]}}, 400, "grammar"),
        ({"prompt": "x", "experts": ["nobody"]}, 404, "experts"),
        ({"prompt": "x", "experts": ["../sql"]}, 404, "experts"),
    ],
)
async def test_a_bad_request_names_its_field(
    body: dict[str, object], status: int, param: str | None, client: httpx.AsyncClient
) -> None:
    response = await client.post("/generate", json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (status, param)
    assert error["message"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b'"text"', b"\xff", b"[" * 2000, b'{"prompt": "x", "temperature": NaN}'],
)
async def test_a_body_that_is_no_request_is_a_400(content: bytes, client: httpx.AsyncClient) -> None:
    response = await client.post("/generate", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


async def test_half_a_character_in_the_prompt_is_a_400(client: httpx.AsyncClient) -> None:
    content = b'{"prompt": "\\ud83d"}'
    response = await client.post("/generate", content=content, headers={"content-type": "application/json"})
    assert response.status_code == 400


async def test_a_form_is_refused_with_a_word_on_the_header(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    response = await client.post("/generate", content=b'{"prompt": "x"}', headers=headers)
    assert response.status_code == 400
    assert "application/json" in response.json()["error"]["message"]


async def test_a_bad_value_is_repeated_only_where_it_is_a_number(client: httpx.AsyncClient) -> None:
    number = await client.post("/generate", json={"prompt": "x", "top_p": 7.5})
    assert "7.5" in number.json()["error"]["message"]
    text = await client.post("/generate", json={"prompt": "x", "stop": ["private" * 20]})
    assert "private" not in text.text


async def test_a_full_queue_is_a_429_that_says_when_to_come_back(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.num_queued = engine.max_queue
    response = await client.post("/generate", json={"prompt": "x"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")


async def test_a_prompt_that_is_too_long_is_told_its_length(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    engine.max_prompt = 10
    response = await client.post("/generate", json={"prompt": "x" * 11})
    assert response.status_code == 400
    assert "11 tokens" in response.json()["error"]["message"]
    assert "10" in response.json()["error"]["message"]


async def test_the_list_of_experts_tells_what_fits_what_is_resident_and_what_is_broken(
    client: httpx.AsyncClient, experts_dir: Path
) -> None:
    shutil.copytree(experts_dir / "free", experts_dir / "broken")
    (experts_dir / "broken" / "manifest.json").write_text("{}")
    await client.post("/generate", json={"prompt": "x", "experts": ["sql"]})
    listing = (await client.get("/experts")).json()
    cards = {card["name"]: card for card in listing["experts"]}
    assert set(cards) == {"sql", "json", "free", "foreign"}
    assert cards["sql"]["resident"]
    assert not cards["json"]["resident"]
    assert not cards["foreign"]["compatible"]
    assert (cards["sql"]["grammar"], cards["json"]["grammar"]) == ("sql", "grammar.gbnf")
    assert [broken["name"] for broken in listing["broken"]] == ["broken"]
    assert str(experts_dir) not in json.dumps(listing)
    assert listing["base"]["name"] == "tiny"
    assert "json" in listing["grammars"]


async def test_health_and_readiness_follow_the_engine(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    assert (await client.get("/health")).status_code == 200
    assert (await client.get("/ready")).json() == {"status": "ready"}
    engine.die()
    assert (await client.get("/health")).status_code == 503
    assert (await client.get("/ready")).status_code == 503


async def test_a_stopped_server_refuses(client: httpx.AsyncClient, lifecycle: Lifecycle) -> None:
    await lifecycle.stop()
    assert (await client.get("/ready")).json() == {"status": "stopped"}
    response = await client.post("/generate", json={"prompt": "x"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert (await client.get("/experts")).status_code == 503


async def test_metrics_count_what_was_answered(client: httpx.AsyncClient) -> None:
    await client.post("/generate", json={"prompt": "count in SQL"})
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    assert 'hotseat_route_decisions_total{stage="keywords"} 1.0' in response.text
    assert 'hotseat_requests_total{route="/generate",status="200"} 1.0' in response.text
    assert 'hotseat_swap_seconds_count{kind="lora",source="host"} 1.0' in response.text


async def test_unknown_paths_and_methods_keep_the_error_shape(client: httpx.AsyncClient) -> None:
    missing, wrong = await client.get("/nowhere"), await client.get("/generate")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


def thinks(_prompt: str, _experts: tuple[str, ...]) -> str:
    return "\nhm\n>it is 4"


@pytest.fixture
def thinker(engine: FakeEngine) -> FakeEngine:
    engine.rule = thinks
    return engine


@pytest.mark.usefixtures("thinker")
async def test_thinking_has_a_field_of_its_own_and_counts(client: httpx.AsyncClient) -> None:
    reply = (await client.post("/generate", json={"prompt": "2+2?", "enable_thinking": True, "stop": "hm"})).json()
    assert (reply["thinking"], reply["text"]) == ("hm", "it is 4")
    assert reply["usage"]["completion_tokens"] == 12
    assert reply["usage"]["thinking_tokens"] == 5


@pytest.mark.usefixtures("thinker")
async def test_thinking_is_streamed_before_the_text(client: httpx.AsyncClient) -> None:
    body = {"prompt": "2+2?", "enable_thinking": True, "stream": True}
    *chunks, summary, _ = events((await client.post("/generate", json=body)).text)
    assert chunks[:2] == [{"thinking": "h"}, {"thinking": "m"}]
    assert "".join(chunk["text"] for chunk in chunks[2:] if isinstance(chunk, dict)) == "it is 4"
    assert isinstance(summary, dict) and "thinking" not in summary and summary["usage"]["thinking_tokens"] == 5


async def test_thinking_that_ends_by_length_has_no_answer(client: httpx.AsyncClient, thinker: FakeEngine) -> None:
    body = {"prompt": "2+2?", "enable_thinking": True, "thinking_budget": 9, "max_tokens": 3}
    reply = (await client.post("/generate", json=body)).json()
    assert (reply["thinking"], reply["text"], reply["finish_reason"]) == ("hm", "", "length")
    assert thinker.requests[0].thinking == Thinking(ord("<"), ord(">"), (), (), 9, is_open=True)


async def test_a_budget_left_out_is_half_of_the_tokens(client: httpx.AsyncClient, thinker: FakeEngine) -> None:
    for max_tokens, budget in ((31, 15), (1, 1)):
        await client.post("/generate", json={"prompt": "2+2?", "enable_thinking": True, "max_tokens": max_tokens})
        thinking = thinker.requests[-1].thinking
        assert thinking is not None and thinking.budget == budget


async def test_without_thinking_the_field_is_left_out(client: httpx.AsyncClient, engine: FakeEngine) -> None:
    reply = (await client.post("/generate", json={"prompt": "hi"})).json()
    assert "thinking" not in reply and engine.requests[0].thinking is None


async def test_a_budget_without_thinking_is_refused(client: httpx.AsyncClient) -> None:
    reply = await client.post("/generate", json={"prompt": "hi", "thinking_budget": 5})
    assert reply.status_code == 400 and "enable_thinking" in reply.json()["error"]["message"]


async def test_a_base_that_can_not_think_says_so(client: httpx.AsyncClient, services: Services) -> None:
    assert isinstance(services.tokenizer, ByteTokenizer)
    services.tokenizer.can_think = False
    reply = await client.post("/generate", json={"prompt": "hi", "enable_thinking": True})
    assert reply.status_code == 400
    assert reply.json()["error"] == {
        "message": "this base can not think",
        "type": "invalid_request_error",
        "param": "enable_thinking",
        "code": "thinking_unsupported",
    }


@pytest.mark.parametrize(
    ("field", "value", "code", "message"),
    [
        ("experts", "units", "experts_type", 'experts: send a list of names, or "auto"'),
        ("stop", ["x"] * 9, "too_many_stops", "stop: 9 stop strings; the limit is 8"),
    ],
)
async def test_a_field_of_several_forms_says_what_it_wants(
    field: str, value: object, code: str, message: str, client: httpx.AsyncClient
) -> None:
    for path, text in (("/generate", {"prompt": "x"}), ("/v1/completions", {"model": "auto", "prompt": "x"})):
        error = (await client.post(path, json=text | {field: value})).json()["error"]
        assert (error["code"], error["param"], error["message"]) == (code, field, message)
