"""The endpoints: which path leads to which work, and how the result is sent.

`POST /generate` is told in `generation.py`; here an answer becomes one body or a stream. Knows no tensors, no
tokens.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from starlette.responses import JSONResponse, Response

from adapters_store.manifest import Manifest
from grammars import library
from server import grammar_routes
from server.admission import Admission
from server.errors import error_body, fault_of
from server.generation import Running, answer, begin
from server.keys import ANYBODY, Caller
from server.log import log_event, log_fault
from server.metrics import CONTENT_TYPE, Metrics
from server.schemas import (
    BaseCard,
    BrokenExpert,
    ErrorBody,
    ExpertCard,
    ExpertList,
    GenerateRequest,
    Reply,
    Status,
    TextChunk,
    ThinkingChunk,
)
from server.security import KeyFirst, everybody, may_generate, may_measure
from server.services import Lifecycle, Services
from server.streaming import DONE, EventStream, Thought, cancelling_on_disconnect, event_of
from server.telemetry import Note, Telemetry

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody} for status in (400, 401, 403, 404, 408, 413, 421, 429, 431, 500, 503, 504)
}


Seconds = Annotated[
    float | None,
    Header(gt=0, le=86_400, allow_inf_nan=False, description="As `timeout` in the body; the shorter one counts."),
]


class Routes:
    """Each router says who may call its routes (`security.py`)."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics, admission: Admission, telemetry: Telemetry) -> None:
        self._lifecycle = lifecycle
        self._telemetry = telemetry
        self._metrics = metrics
        self._admission = admission

    def api(self) -> APIRouter:
        """The table of paths."""
        api = APIRouter()
        for part in (self._probes(), self._measures(), self._work()):
            api.include_router(part)
        return api

    def _probes(self) -> APIRouter:
        api = APIRouter(dependencies=[Depends(everybody)])
        api.add_api_route("/health", self.health, methods=["GET"], response_model=Status)
        api.add_api_route("/ready", self.ready, methods=["GET"], response_model=Status)
        return api

    def _measures(self) -> APIRouter:
        api = APIRouter(dependencies=[Depends(may_measure)])
        api.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=Response)
        return api

    def _work(self) -> APIRouter:
        api = APIRouter(route_class=KeyFirst, dependencies=[Depends(may_generate)])
        api.add_api_route("/generate", self.generate, methods=["POST"], response_model=Reply, responses={**_ERRORS})
        api.add_api_route("/experts", self.experts, methods=["GET"])
        api.add_api_route("/openapi.json", self.description, methods=["GET"], response_class=JSONResponse)
        api.include_router(grammar_routes.api())
        return api

    async def generate(
        self,
        body: GenerateRequest,
        request: Request,
        caller: Annotated[Caller, Depends(may_generate)],
        x_request_timeout: Seconds = None,
    ) -> Response:
        """Text in, an expert's answer out; server-sent events with `"stream": true`."""
        if x_request_timeout is not None:
            body = body.model_copy(update={"timeout": min(x_request_timeout, body.timeout or x_request_timeout)})
        with ExitStack() as held:
            held.enter_context(self._admission.place(caller))
            services = self._lifecycle.require()
            note = held.enter_context(
                self._telemetry.generation(body, services.base_name, request.scope["state"]["trace"])
            )
            running = await begin(services, body, caller)
            held.callback(running.close)
            if body.experts == "auto":
                self._metrics.count_route(running.decision, running.route_ms / 1e3)
            if body.stream:
                stream = EventStream(self._events(running, request, note), held.pop_all().close)
                stream.headers.update(headers_of(running))
                return stream
            async with cancelling_on_disconnect(request.receive, running.tokens.cancel):
                reply = await self._whole(running, request, note)
        return Response(reply.model_dump_json(), headers=headers_of(running, reply), media_type="application/json")

    async def experts(self, caller: Annotated[Caller, Depends(may_generate)]) -> ExpertList:
        """Every expert on disk that the caller may use, which of them fit this base, and which are in a slot."""
        return await asyncio.to_thread(list_experts, self._lifecycle.require(), caller)

    async def description(self, request: Request) -> JSONResponse:
        """These routes, as OpenAPI."""
        return JSONResponse(request.app.openapi())

    async def health(self) -> Response:
        """Is the process worth keeping? Also 200 while it starts."""
        return _status(self._lifecycle.is_healthy, "ok", "the engine has died")

    async def ready(self) -> Response:
        """May requests come?"""
        state = self._lifecycle.state
        return _status(self._lifecycle.is_ready, "ready", state if state != "running" else "the engine has died")

    async def metrics(self) -> Response:
        """Prometheus' text format."""
        return Response(self._metrics.render(), media_type=CONTENT_TYPE)

    async def _whole(self, running: Running, request: Request, note: Note) -> Reply:
        *_, reply = [part async for part in answer(running)]
        assert isinstance(reply, Reply), "an answer ends with its reply"
        self._note(reply, request, note)
        return reply

    async def _events(self, running: Running, request: Request, note: Note) -> AsyncGenerator[str, None]:
        """An error after the first byte can no longer change the status: it becomes the last event."""
        try:
            async for part in answer(running):
                if isinstance(part, Reply):
                    self._note(part, request, note)
                    yield event_of(part, exclude={"text", "thinking"})
                else:
                    yield event_of(
                        ThinkingChunk(thinking=part.text) if isinstance(part, Thought) else TextChunk(text=part)
                    )
            yield DONE
        except Exception as error:
            note.error(error)
            if fault_of(error).status == 500:
                log_fault(f"answer {running.id} broke off", error)
            yield event_of(error_body(error))

    def _note(self, reply: Reply, request: Request, note: Note) -> None:
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


def _status(is_good: bool, good: str, bad: str) -> Response:
    return JSONResponse({"status": good if is_good else bad}, 200 if is_good else 503)


def list_experts(services: Services, caller: Caller = ANYBODY) -> ExpertList:
    """Reads the disk, so that an expert which was added a second ago is there; what a caller may not use is not."""
    engine = services.engine
    resident = frozenset(engine.stats().resident)
    return ExpertList(
        base=BaseCard(
            name=services.base_name,
            fingerprint=engine.fingerprint,
            device=engine.device,
            quantization=engine.quantization,
        ),
        experts=[
            _card(services, manifest, resident) for manifest in services.store.list() if caller.may_use(manifest.name)
        ],
        broken=[
            BrokenExpert(name=name, reason=why)
            for name, why in sorted(services.store.faults.items())
            if caller.may_use(name)
        ],
        grammars=list(library.names()),
    )


def _card(services: Services, manifest: Manifest, resident: frozenset[str]) -> ExpertCard:
    grammar = manifest.grammar
    return ExpertCard(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        kind=manifest.kind_label,
        tags=list(manifest.tags),
        license=manifest.license,
        grammar=None if grammar is None else grammar.library or grammar.file,
        examples=list(manifest.routing.examples),
        compatible=services.is_compatible(manifest),
        resident=manifest.name in resident,
    )
