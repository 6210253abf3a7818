"""`GET /v1/models`: the base, `auto` for the router, and every expert that fits the base."""

import asyncio
import time
from typing import Literal

from adapters_store.manifest import Manifest
from server.errors import ModelNotFound
from server.exchange import Exchange
from server.keys import Caller
from server.openai.naming import AUTO
from server.services import Services
from server.wire import Wire


class ModelCard(Wire):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "hotseat"
    root: str
    parent: str | None
    max_model_len: int
    description: str | None = None


class ModelList(Wire):
    object: Literal["list"] = "list"
    data: list[ModelCard]


class Models:
    """The cards. What was there when the server began is as old as the server."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._created = int(time.time())

    async def all(self, caller: Caller) -> ModelList:
        """All names that `model` may have in the caller's requests."""
        return ModelList(data=await asyncio.to_thread(self._cards, self._exchange.services, caller))

    async def one(self, model: str, caller: Caller) -> ModelCard:
        """One of them; `base:expert` is known too."""
        services = self._exchange.services
        cards = await asyncio.to_thread(self._cards, services, caller)
        name = model.removeprefix(f"{services.base_name}:")
        for card in cards:
            if card.id in (model, name):
                return card
        raise ModelNotFound(model)

    def _cards(self, services: Services, caller: Caller) -> list[ModelCard]:
        base, length = services.base_name, services.engine.max_context
        router = f"{base}, and the experts that the router chooses for the prompt"
        fixed = [
            ModelCard(id=base, created=self._created, root=base, parent=None, max_model_len=length),
            ModelCard(id=AUTO, created=self._created, root=base, parent=base, max_model_len=length, description=router),
        ]
        fitting = [
            manifest
            for manifest in services.store.list()
            if services.is_compatible(manifest) and caller.may_use(manifest.name)
        ]
        return fixed + [self._card(manifest, base, length) for manifest in fitting]

    def _card(self, manifest: Manifest, base: str, length: int) -> ModelCard:
        return ModelCard(
            id=manifest.name,
            created=self._created,
            root=f"{manifest.name}@{manifest.version}",
            parent=base,
            max_model_len=length,
            description=manifest.description,
        )
