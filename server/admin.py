"""`/admin` and vLLM's `/v1/load_lora_adapter`: what the operator may see and do while the server runs.

There is none of it on a server without keys. Experts are named as the catalogue knows them: no path and no address
comes from a client. Packages come in through the command line alone.
"""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from starlette.responses import PlainTextResponse, Response

from adapters_store.installer import ANY, Installer
from engine.errors import AdapterIncompatible
from server.expert_views import memory_data, resident_data, state_data, tier_data
from server.generation import fetch
from server.log import log_event
from server.security import KeyFirst, may_administer
from server.services import Lifecycle, Services
from server.settings import Settings
from server.wire import ExpertName

Action = Literal["load", "unload", "pin", "unpin", "swap"]


class LoraName(BaseModel):
    """A body of vLLM's; what else it may hold has no meaning here."""

    model_config = ConfigDict(strict=True, frozen=True)

    lora_name: ExpertName
    lora_path: str | None = None

    @field_validator("lora_path")
    @classmethod
    def _no_path(cls, value: str | None, info: ValidationInfo) -> str | None:
        """Their clients have to send one: the name again."""
        if value not in (None, "", info.data.get("lora_name")):
            raise PydanticCustomError("client_path", "experts come from the catalogue by `lora_name`, not from a path")
        return value


class AdminRoutes:
    def __init__(self, lifecycle: Lifecycle, settings: Settings) -> None:
        self._lifecycle, self._settings = lifecycle, settings

    def api(self) -> APIRouter:
        """The table of paths; empty without keys."""
        api = APIRouter(route_class=KeyFirst, dependencies=[Depends(may_administer)])
        if self._settings.admin_key is not None or self._settings.keys_file is not None:
            api.add_api_route("/admin/experts", self.experts, methods=["GET"])
            api.add_api_route("/admin/experts/{name}/{action}", self.act, methods=["POST"])
            api.add_api_route("/admin/state", self.state, methods=["GET"])
            api.add_api_route("/v1/load_lora_adapter", self.load_lora, methods=["POST"], response_class=Response)
            api.add_api_route("/v1/unload_lora_adapter", self.unload_lora, methods=["POST"], response_class=Response)
        return api

    async def experts(self) -> dict[str, Any]:
        """Every expert of the catalogue with generation, standby, aliases, pin and signature; or what is wrong."""
        store = self._lifecycle.require().store
        states = await asyncio.to_thread(store.states)
        return {"revision": store.revision, "experts": [state_data(state, store.policy) for state in states]}

    async def state(self) -> dict[str, Any]:
        """What memory holds, on the host and on the device."""
        return await asyncio.to_thread(_state, self._lifecycle.require(), self._settings)

    async def act(self, name: str, action: Action, expected: str = ANY) -> dict[str, Any]:
        """Load an expert into host memory, unload, pin or unpin it, or swap its generation with the standby.

        `expected` is the generation that must serve now for a swap to happen.
        """
        return await self._done(name, action, expected)

    async def load_lora(self, body: LoraName) -> Response:
        """As vLLM has it, of an expert that is in the catalogue."""
        await self._done(body.lora_name, "load")
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' added successfully.")

    async def unload_lora(self, body: LoraName) -> Response:
        """As vLLM has it; the expert stays in the catalogue, and comes back with the next request for it."""
        await self._done(body.lora_name, "unload")
        return PlainTextResponse(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")

    async def _done(self, name: str, action: Action, expected: str = ANY) -> dict[str, Any]:
        services = self._lifecycle.require()
        if action == "load":
            told = await _load(services, name)
        else:
            told = await asyncio.to_thread(_act, services, name, action, expected)
        log_event("admin", action=action, expert=told["name"])
        return told


async def _load(services: Services, name: str) -> dict[str, Any]:
    with await fetch(services.store, name) as lease:
        manifest, generation = lease.adapter.manifest, lease.adapter.generation
        if not services.is_compatible(manifest):
            raise AdapterIncompatible(manifest.name, "it was made for another base than the one that runs")
        await services.engine.warm(lease.adapter)
        held = services.engine.stats().holdings.get("host", ())
        num_bytes = sum(holding.num_bytes for holding in held if holding.generation == generation)
        return {"name": manifest.name, "generation": generation, "bytes": num_bytes}


def _act(services: Services, name: str, action: Action, expected: str) -> dict[str, Any]:
    store = services.store
    state = store.state(name)
    if action == "unload":
        return {"name": state.name, "was_loaded": store.unload(state.name)}
    installer = Installer(store.root, store.policy)
    if action == "swap":
        change = installer.swap(state.name, expected)
        return {"name": state.name, "generation": change.generation, "previous": change.previous}
    installer.pin(state.name, action == "pin")
    return {"name": state.name, "pinned": action == "pin"}


def _state(services: Services, settings: Settings) -> dict[str, Any]:
    host, device, residents = services.store.stats(), services.engine.stats(), services.store.residents()
    return {
        "revision": services.store.revision,
        "base": {"name": services.base_name, "fingerprint": services.engine.fingerprint},
        "experts": memory_data(residents, device.holdings),
        "tiers": tier_data(device.tiers),
        "host": {
            "capacity_bytes": settings.host_memory_bytes,
            "resident_bytes": host.resident_bytes,
            "hits": host.hits,
            "misses": host.misses,
            "evictions": host.evictions,
            "residents": resident_data(residents),
        },
        "device": {
            "kind": services.engine.device,
            "slots": device.num_slots,
            "slots_used": device.slots_used,
            "resident": list(device.resident),
            "running": device.running,
            "queued": device.queued,
            "memory_bytes": device.memory_bytes,
        },
    }
