"""The endpoints: which path leads to which work, and how the result is sent.

`POST /generate` is told in `generation.py`, its form in `generate_form.py`. Knows no tensors, no tokens.
"""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import Discriminator, Tag
from starlette.responses import JSONResponse, Response

from adapters_store.manifest import Manifest
from grammars import library
from server import generate_form, grammar_routes, tgi, tgi_routes
from server.admission import Admission
from server.exchange import Exchange
from server.keys import ANYBODY, Caller
from server.metrics import CONTENT_TYPE, Metrics
from server.openai import routes as openai_routes
from server.schemas import (
    BaseCard,
    BrokenExpert,
    ErrorBody,
    ExpertCard,
    ExpertList,
    GenerateRequest,
    Reply,
    Status,
)
from server.security import everybody, may_generate, may_measure
from server.services import Lifecycle, Services
from server.telemetry import Telemetry
from server.visit import Visitor

_ERRORS: dict[int | str, dict[str, object]] = {
    status: {"model": ErrorBody} for status in (400, 401, 403, 404, 408, 413, 421, 429, 431, 500, 503, 504)
}


def _form(body: object) -> str:
    return (
        tgi_routes.TAG if isinstance(body, tgi.TgiRequest) or (isinstance(body, dict) and "inputs" in body) else _OURS
    )


_OURS = "in our form"
GenerateBody = Annotated[
    Annotated[GenerateRequest, Tag(_OURS)] | Annotated[tgi.TgiRequest, Tag(tgi_routes.TAG)], Discriminator(_form)
]


class Routes:
    """Each router says who may call its routes (`security.py`)."""

    def __init__(self, lifecycle: Lifecycle, metrics: Metrics, admission: Admission, telemetry: Telemetry) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._exchange = Exchange(lifecycle, metrics, admission, telemetry)

    def api(self) -> APIRouter:
        """The table of paths."""
        api = APIRouter()
        for part in (
            self._probes(),
            self._measures(),
            self._work(),
            openai_routes.api(self._exchange),
            tgi_routes.api(self._exchange),
        ):
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
        api = APIRouter(route_class=tgi_routes.EitherRoute, dependencies=[Depends(may_generate)])
        api.add_api_route(
            "/generate", self.generate, methods=["POST"], response_model=Reply | tgi.TgiReply, responses={**_ERRORS}
        )
        api.add_api_route("/experts", self.experts, methods=["GET"])
        api.add_api_route("/openapi.json", self.description, methods=["GET"], response_class=JSONResponse)
        api.include_router(grammar_routes.api())
        return api

    async def generate(self, body: GenerateBody, visit: Visitor) -> Response:
        """Text in, an expert's answer out; server-sent events with `"stream": true`. Also in TGI's and LoRAX's form."""
        if isinstance(body, tgi.TgiRequest):
            return await tgi_routes.respond(self._exchange, body, visit)
        return await generate_form.respond(self._exchange, body, visit)

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
