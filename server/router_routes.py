"""`POST /route`: what the router would do with a prompt. `POST /route/evaluate`: how often it is right.

Neither touches the engine. The work is done in threads, since a long prompt takes milliseconds.
"""

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Depends

from router.decision import RouteDecision, RouteQuery
from router.evaluate import LabelledPrompt, evaluate
from server.keys import Caller
from server.metrics import Metrics
from server.router_schemas import (
    EvaluateReply,
    EvaluateRequest,
    RouteReply,
    RouteRequest,
    reply_of_evaluation,
    reply_of_route,
)
from server.schemas import ErrorBody
from server.security import KeyFirst, may_generate
from server.services import Lifecycle, RouterDoor

_ERRORS: dict[int | str, dict[str, object]] = {status: {"model": ErrorBody} for status in (400, 413, 500, 503)}


class RouterRoutes:
    def __init__(self, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._lifecycle = lifecycle
        self._metrics = metrics

    def api(self) -> APIRouter:
        api = APIRouter(route_class=KeyFirst, dependencies=[Depends(may_generate)])
        api.add_api_route("/route", self.route, methods=["POST"], response_model=RouteReply, responses={**_ERRORS})
        api.add_api_route(
            "/route/evaluate", self.evaluate, methods=["POST"], response_model=EvaluateReply, responses={**_ERRORS}
        )
        return api

    async def route(self, body: RouteRequest, caller: Annotated[Caller, Depends(may_generate)]) -> RouteReply:
        """Which experts a prompt would get, and why. Nothing is generated."""
        query = RouteQuery(body.text, body.max_experts, _allowed(body.allowed, caller))
        router = self._lifecycle.require().router
        await router.refresh()
        decision, seconds = await asyncio.to_thread(timed_route, router, query)
        self._metrics.count_route(decision, seconds)
        return reply_of_route(decision, seconds)

    async def evaluate(self, body: EvaluateRequest, caller: Annotated[Caller, Depends(may_generate)]) -> EvaluateReply:
        """Accuracy, confusion and the wrong rows of labelled prompts, as the router is now."""
        router = self._lifecycle.require().router
        await router.refresh()
        rows = [LabelledPrompt(row.text, () if row.expert is None else (row.expert, *row.also)) for row in body.rows]
        found = await asyncio.to_thread(evaluate, router, rows, _allowed(body.allowed, caller))
        version = (await asyncio.to_thread(router.route, RouteQuery(""))).router_version
        return reply_of_evaluation(found, version)


def timed_route(router: RouterDoor, query: RouteQuery) -> tuple[RouteDecision, float]:
    started = time.perf_counter()
    decision = router.route(query)
    return decision, time.perf_counter() - started


def _allowed(names: list[str] | None, caller: Caller) -> frozenset[str] | None:
    """Those of the request that its key may use; None is all."""
    if names is None or caller.experts is None:
        return caller.experts if names is None else frozenset(names)
    return caller.experts & frozenset(names)
