"""A client that sees a response as it is made and can leave in the middle; httpx gives whole bodies only."""

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType

from starlette.types import ASGIApp, Message


class OpenRequest:
    """One POST, running as a task; `async with` ends it."""

    def __init__(
        self, app: ASGIApp, path: str, body: dict[str, object], headers: Mapping[str, str] | None = None
    ) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        self._path = path
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": json.dumps(body).encode()})
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue()

    async def __aenter__(self) -> "OpenRequest":
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json"), (b"host", b"localhost"), *self._headers],
            "server": ("test", 80),
            "client": ("test", 1),
        }
        self.task = asyncio.ensure_future(self._app(scope, self._incoming.get, self._outgoing.put))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()
        await asyncio.wait_for(asyncio.gather(self.task, return_exceptions=True), 5)

    def disconnect(self) -> None:
        """The client goes away."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        """The next part of the response."""
        return await asyncio.wait_for(self._outgoing.get(), 5)

    async def status(self) -> int:
        message = await self.receive()
        assert message["type"] == "http.response.start"
        return int(message["status"])

    async def text(self) -> str:
        """The next piece of the body."""
        message = await self.receive()
        assert message["type"] == "http.response.body"
        return bytes(message.get("body", b"")).decode()
