"""Puts the application together: lifespan, the layer around every request, error handlers, routes. No logic.

Called by `__main__.py` and by the tests.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.responses import Response

from adapters_store.errors import StoreError
from engine.errors import EngineError
from grammars.errors import GrammarError
from router.errors import RouterError
from server import __version__
from server.admin import AdminRoutes
from server.admission import Admission
from server.errors import error_response
from server.keys import open_keys
from server.log import log_event, log_fault
from server.metrics import Metrics
from server.middleware import Edge, Limits
from server.router_routes import RouterRoutes
from server.routes import Routes
from server.security import allowed_hosts, undeclared
from server.services import Lifecycle, Services
from server.settings import ServerError, Settings
from server.telemetry import telemetry

_ROOMS = (StoreError, GrammarError, RouterError, EngineError, ServerError)
_HANDLED = (*_ROOMS, RequestValidationError, HTTPException)


def create_app(
    lifecycle: Lifecycle,
    settings: Settings,
    on_ready: Callable[[Services], None] = lambda _: None,
    on_failure: Callable[[BaseException], None] = lambda _: None,
) -> FastAPI:
    """Answers at once; `/ready` says when the rooms run, and `on_ready` or `on_failure` is called once.

    Raises SettingsInvalid for a file of keys that cannot be used, and for telemetry that is not installed.
    """

    def announce(start: asyncio.Task[Services]) -> None:
        if lifecycle.state in ("draining", "stopped"):
            return  # it is to end, and how the start went is nobody's concern any more
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
    admission = Admission(settings.max_queue + settings.max_batch, settings.max_concurrent_per_key)
    # FastAPI's own pages of documentation load scripts from elsewhere; the description is one of our routes.
    app = FastAPI(title="Hotseat", version=__version__, lifespan=lifespan, openapi_url=None)
    app.state.drain = partial(drain, lifecycle, admission, settings.drain_seconds)
    app.state.admin_key = settings.admin_key
    app.state.keys = open_keys(settings.keys_file) if settings.keys_file else None
    for kind in _HANDLED:
        app.add_exception_handler(kind, _answer_error)
    app.include_router(Routes(lifecycle, metrics, admission, telemetry(settings.otel)).api())
    app.include_router(AdminRoutes(lifecycle, settings).api())
    app.include_router(RouterRoutes(lifecycle, metrics).api())
    if nameless := undeclared(app.routes):
        raise AssertionError(f"no policy says who may call {', '.join(nameless)}")
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type", "x-api-key", "x-request-id", "traceparent"],
        )
    limits = Limits(
        settings.max_body_bytes, settings.max_header_bytes, settings.client_seconds, allowed_hosts(settings)
    )
    app.add_middleware(Edge, metrics=metrics, limits=limits)
    return app


async def drain(lifecycle: Lifecycle, admission: Admission, seconds: float) -> None:
    """New work is refused from now on; what runs may end within `seconds`, and is ended with EngineStopped then."""
    lifecycle.drain()
    log_event("draining", running=admission.num_running, seconds=seconds)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await admission.wait_until_idle()
    await lifecycle.stop()


async def _answer_error(_: Request, error: Exception) -> Response:
    response = error_response(error)
    if response.status_code == 500:
        log_fault("a request failed", error)
    return response
