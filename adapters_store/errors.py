"""What can go wrong with experts on disk and in host memory.

Owns the room's exceptions. Every message names the fault, the offending value and, where there is one, the
limit. The server maps them to HTTP statuses in one table.
"""

from collections.abc import Iterable
from typing import Literal

FaultCode = Literal[
    "package_invalid",
    "package_link",
    "package_too_large",
    "name_invalid",
    "name_mismatch",
    "manifest_missing",
    "manifest_invalid",
    "manifest_version",
    "file_special",
    "file_unlisted",
    "file_missing",
    "file_size",
    "file_digest",
    "file_unreadable",
    "file_too_large",
    "config_invalid",
    "kind_mismatch",
    "rank_mismatch",
    "rank_too_large",
    "base_mismatch",
    "safetensors_invalid",
    "tensor_dtype",
    "tensor_missing",
    "tensor_not_finite",
    "tensor_shape",
    "soft_prompt_invalid",
    "grammar_invalid",
    "pickle_refused",
    "signature_missing",
    "signature_invalid",
    "signature_untrusted",
    "archive_invalid",
    "archive_path",
    "archive_special",
    "archive_duplicate",
    "archive_too_large",
    "import_unsupported",
]
"""What a program may tell one refusal from another by; the message is for people."""


class StoreError(Exception):
    """Base of everything that this room raises on purpose."""


class ExpertNotFound(StoreError):
    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(sorted(known))
        super().__init__(f"there is no expert {name!r}; known experts: {', '.join(self.known) or 'none'}")


class PackageInvalid(StoreError):
    """Every guard has a code of its own, which stays the same when its words change."""

    def __init__(self, name: str, fault: str, code: FaultCode = "package_invalid") -> None:
        self.name = name
        self.fault = fault
        self.code = code
        super().__init__(f"expert {name!r} cannot be used: {fault}")


class GenerationConflict(StoreError):
    """Somebody else changed the expert since the caller looked."""

    def __init__(self, name: str, expected: str | None, found: str | None) -> None:
        self.name = name
        self.expected = expected
        self.found = found
        super().__init__(f"expert {name!r} has the generation {_short(found)}, not {_short(expected)} as expected")


class NameTaken(StoreError):
    def __init__(self, name: str, by: str) -> None:
        self.name = name
        super().__init__(f"the name {name!r} belongs to {by}")


class NoStandby(StoreError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"expert {name!r} has no standby generation")


class StoreReadOnly(StoreError):
    """The experts can be served and not changed: the disk, or whose it is, forbids it."""

    def __init__(self, directory: str, fault: str) -> None:
        super().__init__(f"the experts in {directory!r} cannot be changed: {fault}")


class ManifestInvalid(StoreError):
    """`path` is the JSON path of the fault, for example `$.routing.cues[1]`."""

    def __init__(self, path: str, fault: str, code: FaultCode = "manifest_invalid") -> None:
        self.path = path
        self.fault = fault
        self.code = code
        super().__init__(f"manifest.json: {path}: {fault}")


class KeyInvalid(StoreError):
    def __init__(self, path: str, fault: str) -> None:
        super().__init__(f"the key {path!r} cannot be used: {fault}")


class BaseModelInvalid(StoreError):
    def __init__(self, directory: str, fault: str) -> None:
        super().__init__(f"no base model in {directory!r}: {fault}")


class StoreFull(StoreError):
    """What could make room is leased or pinned. Waiting could deadlock requests that hold what the other needs."""

    def __init__(self, name: str, needed_bytes: int, leased_bytes: int, capacity_bytes: int) -> None:
        super().__init__(
            f"expert {name!r} needs {needed_bytes} bytes of host memory, "
            f"but {leased_bytes} of {capacity_bytes} are leased or pinned"
        )


def _short(generation: str | None) -> str:
    return generation[:12] if generation else "none"
