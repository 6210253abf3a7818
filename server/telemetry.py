"""OpenTelemetry spans with the GenAI attributes, where the operator asks for them; otherwise nothing.

Needs `pip install 'hotseat[otel]'`. The exporter is configured by the standard's own variables (OTEL_EXPORTER_OTLP_*,
OTEL_RESOURCE_ATTRIBUTES). Prompts and answers are never attributes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from server.schemas import GenerateRequest, Reply
from server.settings import SettingsInvalid
from server.trace_context import Trace

PROVIDER = "hotseat"


class Note(Protocol):
    """What a span is told at its end."""

    def reply(self, reply: Reply) -> None: ...
    def error(self, error: BaseException) -> None: ...


class Silent:
    """No telemetry."""

    @contextmanager
    def generation(self, _body: GenerateRequest, _base: str, _trace: Trace) -> Iterator[Note]:
        yield self

    def reply(self, reply: Reply) -> None:
        pass

    def error(self, error: BaseException) -> None:
        pass


class Spans:
    """A span for each request that generates, as a child of the client's where it sent a traceparent."""

    def __init__(self, tracer: Any) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = tracer

    @contextmanager
    def generation(self, body: GenerateRequest, base: str, trace: Trace) -> Iterator[Note]:
        attributes: dict[str, str | int | float] = {
            "gen_ai.operation.name": "text_completion" if body.messages is None else "chat",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": base,
        }
        for name, value in (
            ("max_tokens", body.max_tokens),
            ("temperature", body.temperature),
            ("top_p", body.top_p),
            ("top_k", body.top_k),
            ("seed", body.seed),
        ):
            if value is not None:
                attributes[f"gen_ai.request.{name}"] = value
        name = f"{attributes['gen_ai.operation.name']} {base}"
        span = self._tracer.start_span(
            name, self._parent(trace), kind=self._trace.SpanKind.SERVER, attributes=attributes
        )
        note = _SpanNote(span, self._trace, base)
        try:
            yield note
        except BaseException as error:
            note.error(error)
            raise
        finally:
            span.end()

    def _parent(self, trace: Trace) -> Any:
        if trace.parent_id is None:
            return None
        context = self._trace.SpanContext(
            int(trace.trace_id, 16), int(trace.parent_id, 16), True, self._trace.TraceFlags(int(trace.flags, 16))
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(context))


class _SpanNote:
    def __init__(self, span: Any, trace: Any, base: str) -> None:
        self._span, self._trace, self._base = span, trace, base

    def reply(self, reply: Reply) -> None:
        experts = "+".join(expert.name for expert in reply.experts)
        attributes: Mapping[str, object] = {
            "gen_ai.response.id": reply.id,
            "gen_ai.response.model": f"{self._base}:{experts}" if experts else self._base,
            "gen_ai.response.finish_reasons": [str(reply.finish_reason)],
            "gen_ai.usage.input_tokens": reply.usage.prompt_tokens,
            "gen_ai.usage.output_tokens": reply.usage.completion_tokens,
            "hotseat.route.stage": reply.routing.stage,
            "hotseat.swap_ms": reply.timings.swap_ms,
        }
        self._span.set_attributes(attributes)

    def error(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(self._trace.Status(self._trace.StatusCode.ERROR))


Telemetry = Silent | Spans


def telemetry(is_on: bool) -> Telemetry:
    """Raises SettingsInvalid where it is asked for and not installed."""
    if not is_on:
        return Silent()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsInvalid("otel is on and OpenTelemetry is not installed: pip install 'hotseat[otel]'") from error
    provider = TracerProvider(resource=Resource.create({"service.name": PROVIDER}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider.get_tracer(PROVIDER))
