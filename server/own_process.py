"""The application without a socket, for one request of this process. Loaded by name, by `generate_command`."""

from functools import partial

import httpx

from server.app import create_app
from server.services import Lifecycle, build_services
from server.settings import Settings, local_url


async def post(settings: Settings, body: dict[str, object]) -> httpx.Response:
    """`POST /generate`. Raises what keeps the rooms from starting."""
    settings = settings.model_copy(update={"keys_file": None, "allowed_hosts": ("*",)})  # nobody else can call it
    lifecycle = Lifecycle(partial(build_services, settings))
    await lifecycle.start()
    transport = httpx.ASGITransport(create_app(lifecycle, settings), raise_app_exceptions=False)
    try:
        async with httpx.AsyncClient(base_url=local_url(settings), transport=transport, timeout=None) as client:
            return await client.post("/generate", json=body)
    finally:
        await lifecycle.stop()
