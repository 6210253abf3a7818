"""Puts the application together: lifespan, the layer around every request, error handlers, routes. No logic.

Called by `__main__.py` and by the tests.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from adapters_store.errors import StoreError
from engine.errors import EngineError
from grammars.errors import GrammarError
from router.errors import RouterError
from server import __version__
from server.admin import AdminRoutes
from server.errors import error_response
from server.log import log_fault
from server.metrics import Metrics
from server.middleware import Edge
from server.router_routes import RouterRoutes
from server.routes import Routes
from server.services import Lifecycle, Services
from server.settings import ServerError, Settings

_ROOMS = (StoreError, GrammarError, RouterError, EngineError, ServerError)
_HANDLED = (*_ROOMS, RequestValidationError, HTTPException)


def create_app(
    lifecycle: Lifecycle,
    settings: Settings,
    on_ready: Callable[[Services], None] = lambda _: None,
    on_failure: Callable[[BaseException], None] = lambda _: None,
) -> FastAPI:
    """Answers at once; `/ready` says when the rooms run, and `on_ready` or `on_failure` is called once."""

    def announce(start: asyncio.Task[Services]) -> None:
        if (error := start.exception()) is not None:
            on_failure(error)
        else:
            on_ready(start.result())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        start = asyncio.create_task(lifecycle.start())
        start.add_done_callback(announce)
        yield
        await asyncio.wait({start})  # a thread that loads cannot be stopped, only waited for
        await lifecycle.stop()

    metrics = Metrics(lambda: lifecycle.services)
    app = FastAPI(title="Hotseat", version=__version__, lifespan=lifespan)
    for kind in _HANDLED:
        app.add_exception_handler(kind, _answer_error)
    app.include_router(Routes(lifecycle, metrics).api())
    app.include_router(AdminRoutes(lifecycle, settings).api())
    app.include_router(RouterRoutes(lifecycle, metrics).api())
    app.add_middleware(Edge, metrics=metrics, max_body_bytes=settings.max_body_bytes)
    return app


async def _answer_error(_: Request, error: Exception) -> Response:
    response = error_response(error)
    if response.status_code == 500:
        log_fault("a request failed", error)
    return response
