"""The trace that a request belongs to, and what its spans and headers say of it."""

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace as otel

from server.app import create_app
from server.services import Lifecycle
from server.settings import Settings, SettingsInvalid
from server.telemetry import Spans, telemetry
from server.trace_context import continued

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class RecordedSpan(otel.NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, name: str, parent: otel.SpanContext, attributes: dict[str, Any]) -> None:
        super().__init__(otel.INVALID_SPAN_CONTEXT)
        self.name, self.parent, self.attributes = name, parent, dict(attributes)
        self.status: otel.Status | None = None
        self.num_ends = 0

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def set_attributes(self, attributes: Any) -> None:
        self.attributes |= attributes

    def set_status(self, status: Any, description: str | None = None) -> None:
        del description
        self.status = status

    def end(self, end_time: int | None = None) -> None:
        del end_time
        self.num_ends += 1


class Recorder:
    """A tracer that keeps its spans."""

    def __init__(self) -> None:
        self.spans: list[RecordedSpan] = []

    def start_span(self, name: str, context: Any, kind: otel.SpanKind, attributes: dict[str, Any]) -> RecordedSpan:
        assert kind == otel.SpanKind.SERVER
        span = RecordedSpan(name, otel.get_current_span(context).get_span_context(), attributes)
        self.spans.append(span)
        return span


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    recorder = Recorder()
    monkeypatch.setattr("server.app.telemetry", lambda _: Spans(recorder))
    yield recorder


@pytest.fixture
def traced(recorder: Recorder, lifecycle: Lifecycle) -> FastAPI:
    del recorder
    return create_app(lifecycle, Settings())


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def test_a_trace_is_continued_with_a_span_of_ours(client: httpx.AsyncClient) -> None:
    answered = (await client.get("/health", headers={"traceparent": PARENT})).headers["traceparent"]
    version, trace_id, span_id, flags = answered.split("-")
    assert (version, trace_id, flags) == ("00", "0af7651916cd43dd8448eb211c80319c", "01")
    assert span_id != "b7ad6b7169203331"


@pytest.mark.parametrize(
    "offered",
    [
        "",
        "x",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + "-more",
        "ff" + PARENT[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        PARENT + "\n",
    ],
)
def test_what_is_no_traceparent_begins_a_trace(offered: str) -> None:
    trace = continued(offered)
    assert trace.parent_id is None and trace.trace_id not in PARENT
    assert continued(trace.traceparent).trace_id == trace.trace_id


def test_a_later_version_is_read_as_far_as_we_know_it() -> None:
    assert continued("01" + PARENT[2:] + "-more").parent_id == "b7ad6b7169203331"


@given(st.text())
def test_no_text_breaks_it(offered: str) -> None:
    assert continued(continued(offered).traceparent).parent_id


async def test_an_answer_says_who_gave_it_and_where_the_time_went(client: httpx.AsyncClient) -> None:
    response = await client.post("/generate", json={"prompt": "count in SQL"})
    assert response.headers["x-experts"] == "sql"
    assert float(response.headers["x-swap-time-ms"]) == response.json()["timings"]["swap_ms"] == 2.0
    timing = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert set(timing) == {"route", "queue", "swap", "first", "total"}
    assert float(timing["total"]) == response.json()["timings"]["total_ms"]


async def test_a_streams_head_says_what_is_known_by_then(client: httpx.AsyncClient) -> None:
    response = await client.post("/generate", json={"prompt": "hi", "stream": True})
    assert response.headers["x-experts"] == "base"
    assert response.headers["server-timing"].startswith("route;dur=")
    assert "x-swap-time-ms" not in response.headers
    assert response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_span_has_the_genai_attributes_and_no_text(
    is_stream: bool, traced: FastAPI, recorder: Recorder
) -> None:
    body = {"prompt": "my secret, in SQL", "temperature": 0.5, "stream": is_stream}
    async with client_of(traced) as client:
        await client.post("/generate", json=body, headers={"traceparent": PARENT})
    (span,) = recorder.spans
    assert (span.name, span.num_ends, span.status) == ("text_completion tiny", 1, None)
    assert format(span.parent.trace_id, "032x") in PARENT and span.parent.is_remote
    assert span.attributes["gen_ai.operation.name"] == "text_completion"
    assert span.attributes["gen_ai.provider.name"] == "hotseat"
    assert (span.attributes["gen_ai.request.model"], span.attributes["gen_ai.response.model"]) == ("tiny", "tiny:sql")
    assert span.attributes["gen_ai.request.temperature"] == 0.5
    assert span.attributes["gen_ai.usage.output_tokens"] > 0
    assert "secret" not in str(span.attributes)


async def test_a_span_of_a_request_that_fails_says_so_and_ends(traced: FastAPI, recorder: Recorder) -> None:
    async with client_of(traced) as client:
        await client.post("/generate", json={"messages": [{"role": "user", "content": "x"}], "experts": ["nobody"]})
    (span,) = recorder.spans
    assert (span.name, span.num_ends, span.attributes["error.type"]) == ("chat tiny", 1, "ExpertNotFound")
    assert span.status is not None and span.status.status_code == otel.StatusCode.ERROR


def test_telemetry_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsInvalid, match=r"hotseat\[otel\]"):
        telemetry(True)
