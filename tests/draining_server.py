"""A process with the real server over a fake engine whose answers take a second, for tests that send it signals.

`python -m tests.draining_server DIRECTORY PORT DRAIN_SECONDS`
"""

import asyncio
import sys
from pathlib import Path

from engine.request import GenerationRequest
from server.app import create_app
from server.services import Lifecycle, Services
from server.settings import Settings
from server.transport import DrainingServer, server_config
from tests.fakes import FakeEngine, FakeGeneration, make_services

ANSWER_SECONDS = 1.0


class SlowEngine(FakeEngine):
    """Lets its answers go a second after it was asked."""

    async def submit(self, request: GenerationRequest) -> FakeGeneration:
        self.flowing.clear()
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self.flowing.set)
        return await super().submit(request)

    def stop(self) -> None:
        super().stop()
        self.die()


def main(directory: str, port: str, drain_seconds: str) -> None:
    settings = Settings(port=int(port), drain_seconds=int(drain_seconds))

    def build() -> Services:
        return make_services(Path(directory), SlowEngine())

    app = create_app(Lifecycle(build), settings)
    config = server_config(app, settings)
    config.host, config.port = settings.host, settings.port
    DrainingServer(config, app.state.drain).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
