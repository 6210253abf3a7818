"""One way for all forms of a request: begin it, read it, count it, and send it whole or as a stream.

A form of the wire brings its body to a GenerateRequest and says how parts and answers look; nothing else differs. Knows
HTTP, and no form. Called by `routes`, `openai` and `tgi`.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import Protocol

from fastapi import Request
from starlette.responses import Response

from server.errors import error_body, fault_of
from server.generation import Answer, Running, answer, begin
from server.log import log_event, log_fault
from server.metrics import Metrics
from server.replies import reply_of
from server.schemas import GenerateRequest, Reply
from server.services import Lifecycle, Services
from server.streaming import EventStream, Finish, Piece, cancelling_on_disconnect, event_of

Answers = Sequence[Answer]


class StreamForm(Protocol):
    """How a streamed answer looks: events, made as its parts come."""

    def opening(self) -> Iterable[str]: ...
    def part(self, part: Piece | Finish) -> Iterable[str]: ...
    def closing(self, answers: Answers) -> Iterable[str]: ...
    def error(self, error: Exception) -> Iterable[str]: ...


class Exchange:
    """What the routes of all forms share. Keeps no state of a request."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._lifecycle, self._metrics = lifecycle, metrics

    @property
    def services(self) -> Services:
        """Raises NotReady."""
        return self._lifecycle.require()

    def pass_over(self, route: str, fields: Collection[str]) -> None:
        """Count fields that nobody here knows."""
        if fields:
            self._metrics.count_unknown_fields(route, len(fields))

    async def whole(
        self, request: Request, bodies: Sequence[GenerateRequest]
    ) -> tuple[list[Running], list[tuple[Answer, ...]]]:
        """The answers to some bodies that came as one request. Who leaves has stopped the work."""
        with ExitStack() as held:
            running = await self._begin(bodies, held)

            def cancel() -> None:
                for each in running:
                    each.cancel()

            async with cancelling_on_disconnect(request.receive, cancel):
                return running, [await self._read(each) for each in running]

    async def stream(self, body: GenerateRequest, form: Callable[[Running], StreamForm]) -> Response:
        with ExitStack() as held:
            [running] = await self._begin([body], held)
            return EventStream(self._events(running, form(running)), held.pop_all().close)

    async def _begin(self, bodies: Sequence[GenerateRequest], held: ExitStack) -> list[Running]:
        """All of them or none."""
        running = []
        for body in bodies:
            running.append(await begin(self.services, body))
            held.callback(running[-1].close)
            if body.experts == "auto":
                self._metrics.count_route(running[-1].decision, running[-1].route_ms / 1e3)
        return running

    async def _read(self, running: Running) -> tuple[Answer, ...]:
        *_, answers = [part async for part in answer(running)]
        assert isinstance(answers, tuple), "an answer ends with all answers"
        self._note(reply_of(running, answers))
        return answers

    async def _events(self, running: Running, form: StreamForm) -> AsyncGenerator[str, None]:
        """An error after the first byte can no longer change the status: it becomes the last event."""
        try:
            for event in form.opening():
                yield event
            async for part in answer(running):
                if isinstance(part, tuple):
                    self._note(reply_of(running, part))
                events = form.closing(part) if isinstance(part, tuple) else form.part(part)
                for event in events:
                    yield event
        except Exception as error:
            if fault_of(error).status == 500:
                log_fault(f"answer {running.id} broke off", error)
            for event in form.error(error):
                yield event

    def _note(self, reply: Reply) -> None:
        self._metrics.count_answer(reply)
        log_event(
            "answer",
            id=reply.id,
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
