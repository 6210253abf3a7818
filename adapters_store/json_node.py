"""JSON that knows where it is.

Owns reading untrusted JSON value by value, so that every refusal names the path of the value it refuses.
Knows nothing of manifests. Called by `manifest` and, for `adapter_config.json`, by `package`.
"""

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

from adapters_store.errors import FaultCode, ManifestInvalid

HEX_32 = re.compile(r"[0-9a-f]{64}")
"""32 bytes in hexadecimal digits: a sha256, a public key."""
HEX_64 = re.compile(r"[0-9a-f]{128}")

_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


class _Duplicate:
    """Stands for the value of a key that occurs twice: whoever reads it refuses it by its path."""


@dataclass(frozen=True, slots=True)
class JsonNode:
    value: object
    path: str = "$"

    def fail(self, fault: str, code: FaultCode = "manifest_invalid") -> NoReturn:
        raise ManifestInvalid(self.path, fault, code)

    def fields(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, "JsonNode"]:
        """The members of an object by name. An optional member that is null counts as absent."""
        if not isinstance(self.value, dict):
            self._expected("an object")
        required, optional = tuple(required), tuple(optional)
        members = {key: JsonNode(value, f"{self.path}.{key}") for key, value in self.value.items()}
        for key, member in members.items():
            if key not in required and key not in optional:
                member.fail("is not a known key")
        for key in required:
            if key not in members:
                JsonNode(None, f"{self.path}.{key}").fail("is missing")
        return {key: node for key, node in members.items() if key in required or node.value is not None}

    def items(self, max_items: int) -> tuple["JsonNode", ...]:
        if not isinstance(self.value, list):
            self._expected("a list")
        if len(self.value) > max_items:
            self.fail(f"has {len(self.value)} entries, the limit is {max_items}")
        return tuple(JsonNode(value, f"{self.path}[{i}]") for i, value in enumerate(self.value))

    def text(self, max_chars: int, pattern: re.Pattern[str] | None = None) -> str:
        if not isinstance(self.value, str):
            self._expected("a string")
        if len(self.value) > max_chars:
            self.fail(f"has {len(self.value)} characters, the limit is {max_chars}")
        if any("\ud800" <= char <= "\udfff" for char in self.value):
            self.fail("holds half of a surrogate pair, which is not text")
        if pattern is not None and not pattern.fullmatch(self.value):
            self.fail(f"{self.value!r} does not match {pattern.pattern}")
        return self.value

    def choice(self, allowed: Iterable[str]) -> str:
        allowed = tuple(allowed)
        if self.value not in allowed:
            self.fail(f"{self._shown()} is not one of {', '.join(allowed)}")
        return str(self.value)

    def integer(self, low: int, high: int) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool) or not low <= self.value <= high:
            self._expected(f"an integer from {low} to {high}")
        return self.value

    def number(self, low: float, high: float) -> float:
        if not isinstance(self.value, int | float) or isinstance(self.value, bool):
            self._expected(f"a number from {low} to {high}")
        if not math.isfinite(self.value) or not low <= self.value <= high:
            self._expected(f"a number from {low} to {high}")
        return float(self.value)

    def _expected(self, what: str) -> NoReturn:
        self.fail(f"expected {what}, found {self._shown()}")

    def _shown(self) -> str:
        if isinstance(self.value, _Duplicate):
            return "a key that occurs twice"
        if isinstance(self.value, int | float | str) and not isinstance(self.value, bool):
            return repr(self.value)[:80]
        return _KINDS[type(self.value)]


def parse_json(raw: bytes) -> JsonNode:
    """For a document that is read member by member."""
    return _parsed(raw, _object)


def parse_whole(raw: bytes) -> object:
    """For a document that is passed on as it is: no key twice, no number beyond all floats, no half of a character."""
    value = _parsed(raw, _strict_object, _finite).value
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as fault:
        raise ManifestInvalid("$", f"is not JSON in UTF-8: {fault}") from fault
    return value


def _parsed(
    raw: bytes, members: Callable[[list[tuple[str, object]]], object], number: Callable[[str], float] = float
) -> JsonNode:
    try:
        text = raw.decode("utf-8")
        found = json.loads(text, object_pairs_hook=members, parse_float=number, parse_constant=_refuse_constant)
        return JsonNode(found)
    except (ValueError, RecursionError) as fault:
        raise ManifestInvalid("$", f"is not JSON in UTF-8: {fault}") from fault


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for key, value in pairs:
        members[key] = _Duplicate() if key in members else value
    return members


def _strict_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"the key {key[:80]!r} occurs twice")
        members[key] = value
    return members


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise ValueError(f"{digits[:80]} is beyond all floats")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
