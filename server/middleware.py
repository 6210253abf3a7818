"""What holds for every request: an id, a bound on its body, an answer in every case, a log line, a count.

Plain ASGI, so streams pass through untouched. Knows no room. `app.py` puts it around the routes.
"""

import re
import time
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import error_response
from server.log import log_fault, log_request
from server.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Edge:
    """The outermost layer of ours."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(Headers(scope=scope))
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            body = await _read_body(receive, self._max_body_bytes)
            if body is None:
                await self._refuse(scope, receive, send_with_id)
            else:
                await self._app(scope, _replaying(body, receive), send_with_id)
        except Exception as error:
            log_fault(f"request {request_id} failed", error)
            if status is not None:  # half an answer is out: only closing the connection tells the client
                raise
            await error_response(error)(scope, receive, send_with_id)
        finally:
            self._note(scope, request_id, status or 500, time.perf_counter() - started)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the body is longer than the limit of {self._max_body_bytes} bytes"
        response = error_response(HTTPException(413, message, {"connection": "close"}))
        await response(scope, receive, send)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.count_request(route, status, seconds)
        log_request(request_id, _method(scope), route, status, seconds)


def _request_id(headers: Headers) -> str:
    """The client's own if it is harmless in a log and in a header, else a new one."""
    offered = headers.get("x-request-id", "")
    return offered if _REQUEST_ID.fullmatch(offered) else f"req-{uuid4().hex}"


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method.isalpha() and len(method) <= 10 else "other"


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it is longer than the limit; a declared length is not trusted."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, once, then whatever the connection says next."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
