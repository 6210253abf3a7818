"""A real server on a real socket, in a thread, over whatever rooms a test gives it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from server.app import create_app
from server.services import Lifecycle, Services
from server.settings import Settings
from server.transport import server_config


@contextmanager
def live_server(services: Services, settings: Settings | None = None) -> Iterator[int]:
    """Gives the port, once the rooms run."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        is_ready = threading.Event()
        settings = settings or Settings(drain_seconds=5)
        app = create_app(Lifecycle(lambda: services), settings, on_ready=lambda _: is_ready.set())
        server = uvicorn.Server(server_config(app, settings))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert is_ready.wait(10), "the server does not become ready"
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)
