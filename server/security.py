"""Who may call which route. A policy is a FastAPI dependency and stands on the route itself, never on its path.

Every route has one of POLICIES; `undeclared` finds those that have none, and the application refuses to start with one.
The path and the Host header that a client sends decide nothing here.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import SecretStr
from starlette.responses import Response
from starlette.routing import BaseRoute

from server.keys import ANYBODY, Caller, KeyFile, KeyRefused, Scope
from server.settings import ServerError, Settings, SettingsInvalid

OPERATOR = Caller("admin", frozenset({"admin"}))
"""Who has the admin key of the settings."""
_MAX_TOKEN = 512
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class ScopeMissing(ServerError):
    """The key is good, and not for this."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(f"this needs a key with the scope {scope!r}")
        self.scope = scope


class ExpertForbidden(ServerError):
    """The key is limited to other experts."""

    def __init__(self, expert: str) -> None:
        super().__init__(f"this key may not use the expert {expert!r}")
        self.expert = expert


async def everybody(_: Request) -> None:
    """Policy: no key. For probes, which tell nothing but a state."""


async def may_generate(request: Request) -> Caller:
    """Policy: the scope `generate`."""
    return authorize(request, "generate")


async def may_measure(request: Request) -> Caller:
    """Policy: the scope `metrics`."""
    return authorize(request, "metrics")


async def may_administer(request: Request) -> Caller:
    """Policy: the scope `admin`, which nobody has on a server without keys."""
    return authorize(request, "admin")


Policy = Callable[[Request], Awaitable[Caller | None]]
POLICIES: tuple[Policy, ...] = (everybody, may_generate, may_measure, may_administer)


class KeyFirst(APIRoute):
    """A route with a body: its policy is asked before the body is parsed, which FastAPI would do first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()
        policies = [policy for policy in POLICIES if policy in set(_calls(self.dependant))]

        async def handler(request: Request) -> Response:
            for policy in policies:
                await policy(request)
            return await answer(request)

        return handler


def authorize(request: Request, scope: Scope) -> Caller:
    """The caller, if it may do this. Raises KeyRefused, ScopeMissing or KeysInvalid."""
    keys: KeyFile | None = request.app.state.keys
    admin_key: SecretStr | None = request.app.state.admin_key
    if keys is None and (scope != "admin" or admin_key is None):
        caller = ANYBODY
    else:
        caller = _holder(token_of(request), keys, admin_key)
    if not caller.may(scope):
        raise ScopeMissing(scope)
    return caller


def _holder(token: str, keys: KeyFile | None, admin_key: SecretStr | None) -> Caller:
    """Of the key in the settings, else of one in the file. Raises KeyRefused or KeysInvalid."""
    if admin_key is not None and hmac.compare_digest(token.encode(), admin_key.get_secret_value().encode()):
        return OPERATOR
    if keys is None:
        raise KeyRefused("this needs the admin key")
    return keys.caller(token)


def token_of(request: Request) -> str:
    """What `Authorization: Bearer` or `X-Api-Key` carries. Raises KeyRefused where neither is there."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.headers.get("x-api-key", "")
    if not (token := token.strip()):
        raise KeyRefused("an API key is needed: send it as 'Authorization: Bearer <key>' or as 'X-Api-Key: <key>'")
    return token[:_MAX_TOKEN]


def undeclared(routes: Sequence[BaseRoute]) -> list[str]:
    """The routes that do not say, by exactly one policy of their own, who may call them."""
    found = []
    for route in iter_route_contexts(routes):
        dependant = getattr(route, "dependant", None)
        if len(set(_calls(dependant)) & set(POLICIES)) != 1:
            found.append(str(getattr(route, "path", route)))
    return found


def _calls(dependant: Dependant | None) -> Iterator[object]:
    """Only direct dependencies count: what stands deeper belongs to whatever it is for."""
    return (each.call for each in dependant.dependencies) if dependant else iter(())


def check_bind(settings: Settings) -> None:
    """Raises SettingsInvalid where strangers could reach a server that asks nobody for a key."""
    if settings.keys_file or settings.insecure_bind or is_loopback(settings.host):
        return
    raise SettingsInvalid(
        f"refusing to listen on {settings.host}, which others can reach, without API keys:"
        " `hotseat keys add NAME --file keys.json` makes one for --keys-file keys.json;"
        " --insecure-bind serves everybody who can connect"
    )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_hosts(settings: Settings) -> frozenset[str]:
    """Names that a Host header may carry; `*` is any.

    A server on loopback answers to loopback's names alone: a web page whose own name was made to point to 127.0.0.1
    would otherwise reach it from a browser (DNS rebinding).
    """
    if settings.allowed_hosts:
        return frozenset(name.lower() for name in settings.allowed_hosts)
    if is_loopback(settings.host):
        return frozenset((*LOOPBACK_NAMES, settings.host.lower()))
    return frozenset({"*"})
