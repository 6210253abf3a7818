"""TGI's paths, and its errors: a body of its form that cannot be answered is told so in its form, wherever it came."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response

from server.errors import RETRY_AFTER_SECONDS, validation_body
from server.exchange import Exchange
from server.log import log_fault
from server.security import KeyFirst, may_generate
from server.tgi import TgiReply, TgiRequest, error_of, generate, stream
from server.visit import Visit, Visitor

TAG: Final = "in TGI's form"
"""Of this form, where a body may have several."""


class TgiRoute(KeyFirst):
    """Every fault of this route has TGI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                return self.refusal(error)

        return handled

    def refusal(self, error: Exception) -> Response:
        if isinstance(error, RequestValidationError):
            return JSONResponse({"error": validation_body(error).error.message, "error_type": "validation"}, 422)
        if error_of(error)[0] == 424:
            log_fault("a generation failed", error)
        return refused(error)


class EitherRoute(TgiRoute):
    """A route that takes our form as well, whose faults go on to the application's own handlers."""

    def refusal(self, error: Exception) -> Response:
        if isinstance(error, RequestValidationError) and any(TAG in fault["loc"] for fault in error.errors()):
            return super().refusal(error)
        raise error


def refused(error: Exception) -> Response:
    """With the headers that the status asks for."""
    status, body = error_of(error)
    headers = {"retry-after": str(RETRY_AFTER_SECONDS)} if status in (429, 503) else {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(body, status, headers)


def api(exchange: Exchange) -> APIRouter:
    async def generate_stream(body: TgiRequest, visit: Visitor) -> Response:
        """An event for each token, in TGI's form."""
        return await stream(exchange, body, visit)

    async def root(body: TgiRequest, visit: Visitor) -> Response:
        """Where Hugging Face's client posts: a list of one answer, or a stream."""
        if body.stream:
            return await stream(exchange, body, visit)
        return await generate(exchange, body, visit, in_list=True)

    routes = APIRouter(route_class=TgiRoute, dependencies=[Depends(may_generate)])
    routes.add_api_route("/generate_stream", generate_stream, methods=["POST"])
    routes.add_api_route("/", root, methods=["POST"], response_model=list[TgiReply])
    return routes


async def respond(exchange: Exchange, body: TgiRequest, visit: Visit) -> Response:
    """To a body of this form on `/generate`."""
    try:
        if body.stream:
            return await stream(exchange, body, visit)
        return await generate(exchange, body, visit)
    except Exception as error:
        if error_of(error)[0] == 424:
            raise
        return refused(error)
