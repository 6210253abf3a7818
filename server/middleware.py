"""What holds for every request: a known host, bounds on its head and body, an id, an answer in every case, a log line.

Plain ASGI, so streams pass through untouched. Knows no room, and decides nothing by path. `app.py` puts it around the
routes.
"""

import asyncio
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import error_response
from server.log import log_fault, log_request
from server.metrics import Metrics
from server.trace_context import continued

LINGER_SECONDS = 2.0
"""For what a refused client still sends, which is not kept."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request may look like before anybody reads it."""

    body_bytes: int
    header_bytes: int = 16 << 10
    body_seconds: float = 30
    hosts: frozenset[str] = frozenset({"*"})
    """Names that the Host header may carry, in lower case; `*` is any."""


class Edge:
    """The outermost layer of ours."""

    def __init__(self, app: ASGIApp, metrics: Metrics, limits: Limits) -> None:
        self._app = app
        self._metrics = metrics
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = Headers(scope=scope)
        request_id, trace = _request_id(headers), continued(headers.get("traceparent", ""))
        scope.setdefault("state", {}).update(request_id=request_id, trace=trace)
        status: int | None = None

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered["x-request-id"], answered["traceparent"] = request_id, trace.traceparent
            await send(message)

        try:
            await self._answer(scope, receive, send_with_id)
        except Exception as error:
            log_fault(f"request {request_id} failed", error)
            if status is not None:  # half an answer is out: only closing the connection tells the client
                raise
            await error_response(error)(scope, receive, send_with_id)
        finally:
            self._note(scope, request_id, status or 500, time.perf_counter() - started, trace.trace_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """By the application, or with what is wrong with the head or the body."""
        try:
            self._check_head(scope)
            body = await self._read_body(receive)
        except HTTPException as refusal:
            await error_response(refusal)(scope, receive, _lingering(send, receive))
        else:
            await self._app(scope, _replaying(body, receive), send)

    def _check_head(self, scope: Scope) -> None:
        """Raises HTTPException; the connection is closed, since a body may follow that nobody reads."""
        size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        limit = self._limits.header_bytes
        if size > limit:
            raise _refusal(431, f"the head of the request has {size} bytes, the limit is {limit}")
        if "*" in self._limits.hosts:
            return
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        found = _HOST.fullmatch(named[0]) if len(named) == 1 else None
        if found is None or found[1].lower() not in self._limits.hosts:
            raise _refusal(421, "this server does not answer to that name; its operator sets allowed_hosts")

    async def _read_body(self, receive: Receive) -> bytes:
        """The whole body, as far as it is within its limits; a declared length is not trusted. Raises HTTPException."""
        body, limits = bytearray(), self._limits
        try:
            async with asyncio.timeout(limits.body_seconds):
                is_whole = False
                while not is_whole:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > limits.body_bytes:
                        raise _refusal(413, f"the body is longer than the limit of {limits.body_bytes} bytes")
                    is_whole = not message.get("more_body", False)
        except TimeoutError:
            raise _refusal(408, f"the body did not come within {limits.body_seconds:g} seconds") from None
        return bytes(body)

    def _note(self, scope: Scope, request_id: str, status: int, seconds: float, trace_id: str) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.count_request(route, status, seconds)
        log_request(request_id, _method(scope), route, status, seconds, trace_id)


def _refusal(status: int, message: str) -> HTTPException:
    return HTTPException(status, message, {"connection": "close"})


def _request_id(headers: Headers) -> str:
    """The client's own if it is harmless in a log and in a header, else a new one."""
    offered = headers.get("x-request-id", "")
    return offered if _REQUEST_ID.fullmatch(offered) else f"req-{uuid4().hex}"


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method.isalpha() and len(method) <= 10 else "other"


def _lingering(send: Send, receive: Receive) -> Send:
    """Ends an answer when the client has said what it wanted to say, or after LINGER_SECONDS.

    Closing a connection with bytes that nobody has read resets it, and takes back what was sent.
    """

    async def linger(message: Message) -> None:
        if message["type"] == "http.response.body":
            await send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(LINGER_SECONDS):
                    while (await receive()).get("more_body", False):
                        pass
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await send(message)

    return linger


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
