"""One way for all forms of a request: begin it, read it, count it, and send it whole or as a stream.

A form of the wire brings its body to a GenerateRequest and says how parts and answers look; nothing else differs. Knows
HTTP, and no form. Called by `routes`, `openai` and `tgi`.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from starlette.responses import Response

from server.admission import Admission
from server.bounds import within
from server.errors import error_body, fault_of
from server.generation import Answer, Running, answer, begin
from server.log import log_event, log_fault
from server.metrics import Metrics
from server.replies import headers_of, reply_of
from server.schemas import GenerateRequest, Reply
from server.services import Lifecycle, Services
from server.streaming import EventStream, cancelling_on_disconnect, event_of
from server.telemetry import Note, Telemetry
from server.text_reader import Streamed, joined
from server.visit import Visit

Answers = Sequence[Answer]


class StreamForm(Protocol):
    """How a streamed answer looks: events, made as its parts come."""

    def opening(self) -> Iterable[str]: ...
    def part(self, part: Streamed) -> Iterable[str]: ...
    def closing(self, answers: Answers) -> Iterable[str]: ...
    def error(self, error: Exception) -> Iterable[str]: ...


@dataclass(frozen=True, slots=True)
class _Begun:
    """A request that runs, who asked, and what is to be told of it at its end."""

    running: Running
    visit: Visit
    note: Note


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

    @asynccontextmanager
    async def work(self, visit: Visit) -> AsyncIterator[Services]:
        """A place and the time of the visit for work that generates nothing. Raises ServerFull or KeyBusy."""
        with self._admission.place(visit.caller):
            async with within(visit.seconds):
                yield self.services

    async def whole(
        self, visit: Visit, bodies: Sequence[GenerateRequest]
    ) -> tuple[list[Running], list[tuple[Answer, ...]]]:
        """The answers to some bodies that came as one request. Who leaves has stopped the work."""
        with ExitStack() as held:
            begun = await self._begin(visit, bodies, held)

            def cancel() -> None:
                for each in begun:
                    each.running.cancel()

            async with cancelling_on_disconnect(visit.request.receive, cancel):
                return [each.running for each in begun], [await self._read(each) for each in begun]

    async def stream(
        self, visit: Visit, body: GenerateRequest, form: Callable[[Running], StreamForm], by_token: bool = False
    ) -> Response:
        """`by_token`: the form wants each token's piece apart, also where several came together."""
        with ExitStack() as held:
            [begun] = await self._begin(visit, [body], held)
            stream = EventStream(self._events(begun, form(begun.running), by_token), held.pop_all().close)
            stream.headers.update(headers_of(begun.running))
            return stream

    async def _begin(self, visit: Visit, bodies: Sequence[GenerateRequest], held: ExitStack) -> list[_Begun]:
        """All of them or none, in one place. Each has a span of its own."""
        held.enter_context(self._admission.place(visit.caller))
        begun = []
        for body in map(visit.bounded, bodies):
            services = self.services
            note = held.enter_context(self._telemetry.generation(body, services.base_name, visit.trace))
            running = await begin(services, body, visit.caller)
            held.callback(running.close)
            begun.append(_Begun(running, visit, note))
            if body.experts == "auto":
                self._metrics.count_route(running.decision, running.route_ms / 1e3)
        return begun

    async def _read(self, begun: _Begun) -> tuple[Answer, ...]:
        *_, answers = [parts async for parts in answer(begun.running)]
        assert isinstance(answers, tuple), "an answer ends with all answers"
        self._note(begun, reply_of(begun.running, answers))
        return answers

    async def _events(self, begun: _Begun, form: StreamForm, by_token: bool) -> AsyncGenerator[str, None]:
        """An error after the first byte can no longer change the status: it becomes the last event."""
        try:
            if opening := "".join(form.opening()):
                yield opening
            async for parts in answer(begun.running):
                if isinstance(parts, tuple):
                    self._note(begun, reply_of(begun.running, parts))
                    yield "".join(form.closing(parts))
                    continue
                told = [event for part in (parts if by_token else joined(parts)) for event in form.part(part)]
                if told:
                    yield "".join(told)
        except Exception as error:
            begun.note.error(error)
            if fault_of(error).status == 500:
                log_fault(f"answer {begun.running.id} broke off", error)
            yield "".join(form.error(error))

    def _note(self, begun: _Begun, reply: Reply) -> None:
        self._metrics.count_answer(reply)
        begun.note.reply(reply)
        log_event(
            "answer",
            id=reply.id,
            request_id=begun.visit.id,
            trace_id=begun.visit.trace.trace_id,
            stage=reply.routing.stage,
            experts=",".join(expert.name for expert in reply.experts) or "base",
            finish=reply.finish_reason,
            prompt_tokens=reply.usage.prompt_tokens,
            completion_tokens=reply.usage.completion_tokens,
            total_ms=reply.timings.total_ms,
        )


def error_event(error: Exception) -> str:
    """The error's body as an event."""
    return event_of(error_body(error).model_dump_json())
