"""The endpoints: which path leads to which work, and how the result is sent.

`POST /generate` is told in `generation.py`; here an answer becomes one body or a stream. Knows no tensors, no
tokens.
"""

import asyncio
from collections.abc import AsyncGenerator

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from adapters_store.manifest import Manifest
from grammars import library
from server import grammar_routes
from server.errors import error_body, fault_of
from server.generation import Running, answer, begin
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
from server.services import Lifecycle, Services
from server.streaming import DONE, EventStream, Thought, cancelling_on_disconnect, event_of

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody} for status in (400, 404, 413, 429, 500, 503, 504)
}


class Routes:
    def __init__(self, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics

    def api(self) -> APIRouter:
        """The table of paths."""
        api = APIRouter()
        api.add_api_route("/generate", self.generate, methods=["POST"], response_model=Reply, responses={**_ERRORS})
        api.add_api_route("/experts", self.experts, methods=["GET"])
        api.add_api_route("/health", self.health, methods=["GET"], response_model=Status)
        api.add_api_route("/ready", self.ready, methods=["GET"], response_model=Status)
        api.add_api_route("/metrics", self.metrics, methods=["GET"], response_class=Response)
        api.include_router(grammar_routes.api())
        return api

    async def generate(self, body: GenerateRequest, request: Request) -> Response:
        """Text in, an expert's answer out; server-sent events with `"stream": true`."""
        running = await begin(self._lifecycle.require(), body)
        if body.experts == "auto":
            self._metrics.count_route(running.decision, running.route_ms / 1e3)
        if body.stream:
            return EventStream(self._events(running), running.close)
        try:
            async with cancelling_on_disconnect(request.receive, running.tokens.cancel):
                reply = await self._whole(running)
        finally:
            running.close()
        return Response(reply.model_dump_json(), media_type="application/json")

    async def experts(self) -> ExpertList:
        """Every expert on disk, which of them fit this base, and which are in a slot."""
        return await asyncio.to_thread(list_experts, self._lifecycle.require())

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

    async def _whole(self, running: Running) -> Reply:
        *_, reply = [part async for part in answer(running)]
        assert isinstance(reply, Reply), "an answer ends with its reply"
        self._note(reply)
        return reply

    async def _events(self, running: Running) -> AsyncGenerator[str, None]:
        """An error after the first byte can no longer change the status: it becomes the last event."""
        try:
            async for part in answer(running):
                if isinstance(part, Reply):
                    self._note(part)
                    yield event_of(part, exclude={"text", "thinking"})
                else:
                    yield event_of(
                        ThinkingChunk(thinking=part.text) if isinstance(part, Thought) else TextChunk(text=part)
                    )
            yield DONE
        except Exception as error:
            if fault_of(error).status == 500:
                log_fault(f"answer {running.id} broke off", error)
            yield event_of(error_body(error))

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


def _status(is_good: bool, good: str, bad: str) -> Response:
    return JSONResponse({"status": good if is_good else bad}, 200 if is_good else 503)


def list_experts(services: Services) -> ExpertList:
    """Reads the disk, so that an expert which was added a second ago is there."""
    engine = services.engine
    resident = frozenset(engine.stats().resident)
    return ExpertList(
        base=BaseCard(
            name=services.base_name,
            fingerprint=engine.fingerprint,
            device=engine.device,
            quantization=engine.quantization,
        ),
        experts=[_card(services, manifest, resident) for manifest in services.store.list()],
        broken=[BrokenExpert(name=name, reason=why) for name, why in sorted(services.store.faults.items())],
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
