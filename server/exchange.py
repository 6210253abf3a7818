"""One way for all forms of a request: begin it, read it, count it, and send it whole or as a stream.

A form of the wire brings its body to a GenerateRequest and says how parts and answers look; nothing else differs. Knows
HTTP, and no form. Called by `routes`, `openai` and `tgi`.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol

from fastapi import Request
from starlette.responses import Response

from server.admission import Admission
from server.errors import error_body, fault_of
from server.generation import Answer, Running, answer, begin
from server.log import log_event, log_fault
from server.metrics import Metrics
from server.replies import reply_of
from server.schemas import GenerateRequest, Reply
from server.security import authorize
from server.services import Lifecycle, Services
from server.streaming import EventStream, Part, cancelling_on_disconnect, event_of
from server.telemetry import Note, Telemetry

Answers = Sequence[Answer]


class StreamForm(Protocol):
    """How a streamed answer looks: events, made as its parts come."""

    def opening(self) -> Iterable[str]: ...
    def part(self, part: Part) -> Iterable[str]: ...
    def closing(self, answers: Answers) -> Iterable[str]: ...
    def error(self, error: Exception) -> Iterable[str]: ...


class Whole(NamedTuple):
    """What came of the bodies, each in its place, and the head of the response."""

    running: list[Running]
    answers: list[tuple[Answer, ...]]
    headers: dict[str, str]


class Exchange:
    """What the routes of all forms share. Keeps no state of a request."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics, admission: Admission, telemetry: Telemetry) -> None:
        self._lifecycle, self._metrics = lifecycle, metrics
        self._admission, self._telemetry = admission, telemetry

    @property
    def services(self) -> Services:
        """Raises NotReady."""
        return self._lifecycle.require()

    def pass_over(self, route: str, fields: Collection[str]) -> None:
        """Count fields that nobody here knows."""
        if fields:
            self._metrics.count_unknown_fields(route, len(fields))

    async def whole(self, request: Request, bodies: Sequence[GenerateRequest]) -> Whole:
        """The answers to some bodies that came as one request. Who leaves has stopped the work."""
        with ExitStack() as held:
            begun = await self._begin(request, bodies, held)
            running = [each for each, _ in begun]

            def cancel() -> None:
                for each in running:
                    each.cancel()

            async with cancelling_on_disconnect(request.receive, cancel):
                answers = [await self._read(each, note, request) for each, note in begun]
        return Whole(running, answers, headers_of(running[0], reply_of(running[0], answers[0])))

    async def stream(self, request: Request, body: GenerateRequest, form: Callable[[Running], StreamForm]) -> Response:
        with ExitStack() as held:
            [(running, note)] = await self._begin(request, [body], held)
            events = self._events(running, note, request, form(running))
            return EventStream(events, held.pop_all().close, headers_of(running))

    async def _begin(
        self, request: Request, bodies: Sequence[GenerateRequest], held: ExitStack
    ) -> list[tuple[Running, Note]]:
        """All of them or none, in one place of the caller's."""
        caller = authorize(request, "generate")
        held.enter_context(self._admission.place(caller))
        services, begun = self.services, []
        for body in bodies:
            trace = request.scope["state"]["trace"]
            note = held.enter_context(self._telemetry.generation(body, services.base_name, trace))
            running = await begin(services, body, caller)
            held.callback(running.close)
            begun.append((running, note))
            if body.experts == "auto":
                self._metrics.count_route(running.decision, running.route_ms / 1e3)
        return begun

    async def _read(self, running: Running, note: Note, request: Request) -> tuple[Answer, ...]:
        *_, answers = [part async for part in answer(running)]
        assert isinstance(answers, tuple), "an answer ends with all answers"
        self._note(reply_of(running, answers), note, request)
        return answers

    async def _events(
        self, running: Running, note: Note, request: Request, form: StreamForm
    ) -> AsyncGenerator[str, None]:
        """An error after the first byte can no longer change the status: it becomes the last event."""
        try:
            for event in form.opening():
                yield event
            async for part in answer(running):
                if isinstance(part, tuple):
                    self._note(reply_of(running, part), note, request)
                events = form.closing(part) if isinstance(part, tuple) else form.part(part)
                for event in events:
                    yield event
        except Exception as error:
            note.error(error)
            if fault_of(error).status == 500:
                log_fault(f"answer {running.id} broke off", error)
            for event in form.error(error):
                yield event

    def _note(self, reply: Reply, note: Note, request: Request) -> None:
        self._metrics.count_answer(reply)
        note.reply(reply)
        log_event(
            "answer",
            id=reply.id,
            request_id=request.scope["state"]["request_id"],
            trace_id=request.scope["state"]["trace"].trace_id,
            stage=reply.routing.stage,
            experts=",".join(expert.name for expert in reply.experts) or "base",
            finish=reply.finish_reason,
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=reply.usage.completion_tokens,
            total_ms=reply.timings.total_ms,
        )


def headers_of(running: Running, reply: Reply | None = None) -> dict[str, str]:
    """Who answers and where the time goes, for clients that look at no body; a stream's head knows only the routing."""
    names = ",".join(use.adapter.manifest.name for use in running.experts)
    headers = {"x-experts": names or "base"}
    times = {"route": running.route_ms}
    if reply is not None:
        spent = reply.timings
        headers["x-swap-time-ms"] = f"{spent.swap_ms:g}"
        times |= {
            "queue": spent.queue_ms,
            "swap": spent.swap_ms,
            "first": spent.first_token_ms,
            "total": spent.total_ms,
        }
    headers["server-timing"] = ", ".join(f"{name};dur={ms:.3f}" for name, ms in times.items())
    return headers


def error_event(error: Exception) -> str:
    """The error's body as an event."""
    return event_of(error_body(error).model_dump_json())
