"""What can go wrong with experts on disk and in host memory.

Owns the room's exceptions. Every message names the fault, the offending value and, where there is one, the
limit. The server maps them to HTTP statuses in one table.
"""

from collections.abc import Iterable


class StoreError(Exception):
    """Base of everything that this room raises on purpose."""


class ExpertNotFound(StoreError):
    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"there is no expert {name!r}; known experts: {', '.join(self.known) or 'none'}")


class PackageInvalid(StoreError):
    def __init__(self, name: str, fault: str) -> None:
        self.name = name
        self.fault = fault
        super().__init__(f"expert {name!r} cannot be used: {fault}")


class ManifestInvalid(StoreError):
    """`path` is the JSON path of the fault, for example `$.routing.cues[1]`."""

    def __init__(self, path: str, fault: str) -> None:
        self.path = path
        self.fault = fault
        super().__init__(f"manifest.json: {path}: {fault}")


class BaseModelInvalid(StoreError):
    def __init__(self, directory: str, fault: str) -> None:
        super().__init__(f"no base model in {directory!r}: {fault}")


class StoreFull(StoreError):
    """What could make room is leased. Waiting could deadlock requests that hold what the other needs."""

    def __init__(self, name: str, needed_bytes: int, leased_bytes: int, capacity_bytes: int) -> None:
        super().__init__(
            f"expert {name!r} needs {needed_bytes} bytes of host memory, "
            f"but {leased_bytes} of {capacity_bytes} are leased"
        )
