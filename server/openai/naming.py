"""What `model` means: the base's id, `auto` for the router, an expert, or `base:expert`.

Knows names alone; whether an expert exists is found out when it is fetched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

from adapters_store.errors import ExpertNotFound
from server.errors import ModelNotFound
from server.wire import ExpertChoice

AUTO: Final = "auto"
_MAX_EXPERT: Final = 64

Experts = Literal["auto"] | list[str | ExpertChoice]


def experts_of(model: str, base: str) -> Experts:
    """Whom the name asks for. Raises ModelNotFound for what can be no name of an expert."""
    name = model.removeprefix(f"{base}:")
    if name == AUTO:
        return "auto"
    if name == base:
        return []
    if not name or len(name) > _MAX_EXPERT:
        raise ModelNotFound(model)
    return [name]


@contextmanager
def naming(model: str, base: str) -> Iterator[None]:
    """An expert that is not there is a model that is not there, where the model is what named it."""
    try:
        yield
    except ExpertNotFound as missing:
        if experts_of(model, base) != [missing.name]:
            raise
        raise ModelNotFound(model) from missing
