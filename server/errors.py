"""Which HTTP answer each exception becomes: one table, and the one error shape of the wire.

Owns NotReady as well. A message that goes to a client is the exception's own for the errors listed here;
anything not listed is ours and says nothing about itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from adapters_store.errors import (
    ExpertNotFound,
    GenerationConflict,
    NameTaken,
    NoStandby,
    PackageInvalid,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from engine.errors import (
    AdapterIncompatible,
    DeadlineExceeded,
    EngineError,
    EngineOverloaded,
    EngineStopped,
    GrammarDeadEnd,
    LogitsInvalid,
    PromptTooLong,
    SamplingInvalid,
    ThinkingUnsupported,
    TooManyExperts,
)
from grammars.errors import (
    GrammarError,
    GrammarInvalid,
    GrammarUnknown,
    GrammarUntried,
    RegexUnsupported,
    SchemaTextInvalid,
    SchemaUnsupported,
)
from router.errors import RouterError
from server.admission import KeyBusy, ServerFull
from server.keys import KeyRefused
from server.schemas import ErrorBody, ErrorDetail
from server.security import ExpertForbidden, ScopeMissing
from server.settings import ServerError

RETRY_AFTER_SECONDS = 1


class NotReady(ServerError):
    def __init__(self, state: str) -> None:
        self.state = state
        super().__init__(f"the server is {state}; try again when /ready answers 200")


class ModelNotFound(ServerError):
    def __init__(self, model: str, reason: str = "does not exist; GET /v1/models lists those that do") -> None:
        self.model = model
        super().__init__(f"the model {model[:80]!r} {reason}")


class RequestRefused(ServerError):
    """The body asks for something that this server does not do, or cannot do with the rest of it."""

    def __init__(self, param: str, reason: str) -> None:
        self.param = param
        super().__init__(f"{param}: {reason}")

    @classmethod
    def of(cls, faults: ValidationError) -> "RequestRefused":
        """A body that passed in its own form and not in ours: the first fault, in our form's words."""
        first = faults.errors(include_input=False)[0]
        return cls(str(first["loc"][0]) if first["loc"] else "body", str(first["msg"]))


class ExpertRepeated(ServerError):
    def __init__(self, name: str) -> None:
        super().__init__(f"expert {name!r} is named twice, by itself or by its aliases")


@dataclass(frozen=True, slots=True)
class Fault:
    status: int
    type: str
    code: str
    param: str | None = None
    is_temporary: bool = False  # the answer carries Retry-After


_INVALID = "invalid_request_error"
_OURS = Fault(500, "server_error", "internal_error")

# The most specific class wins, so a room's base class is the answer for whatever has no line of its own.
FAULTS: dict[type[Exception], Fault] = {
    ExpertNotFound: Fault(404, "not_found_error", "expert_not_found", "experts"),
    PackageInvalid: Fault(503, "server_error", "expert_broken", "experts"),
    StoreFull: Fault(503, "overloaded_error", "host_memory_full", "experts", is_temporary=True),
    GenerationConflict: Fault(409, "conflict_error", "generation_conflict", "expected"),
    NameTaken: Fault(409, "conflict_error", "name_taken"),
    NoStandby: Fault(409, "conflict_error", "no_standby"),
    StoreReadOnly: Fault(503, "server_error", "store_read_only"),
    StoreError: _OURS,
    GrammarUnknown: Fault(400, _INVALID, "grammar_unknown", "grammar"),
    SchemaTextInvalid: Fault(400, _INVALID, "schema_invalid", "grammar"),
    GrammarInvalid: Fault(400, _INVALID, "grammar_invalid", "grammar"),
    GrammarUntried: Fault(503, "server_error", "grammar_unchecked", "grammar", is_temporary=True),
    RegexUnsupported: Fault(400, _INVALID, "regex_unsupported", "grammar"),
    SchemaUnsupported: Fault(400, _INVALID, "schema_unsupported", "grammar"),
    GrammarError: _OURS,
    GrammarDeadEnd: Fault(503, "server_error", "grammar_dead_end", "grammar"),
    LogitsInvalid: Fault(503, "server_error", "logits_invalid"),
    EngineOverloaded: Fault(429, "rate_limit_error", "overloaded", is_temporary=True),
    DeadlineExceeded: Fault(504, "server_error", "deadline_exceeded"),
    PromptTooLong: Fault(400, _INVALID, "prompt_too_long", "prompt"),
    SamplingInvalid: Fault(400, _INVALID, "sampling_invalid"),
    ThinkingUnsupported: Fault(400, _INVALID, "thinking_unsupported", "enable_thinking"),
    TooManyExperts: Fault(400, _INVALID, "too_many_experts", "experts"),
    AdapterIncompatible: Fault(400, _INVALID, "expert_incompatible", "experts"),
    EngineStopped: Fault(503, "server_error", "engine_stopped", is_temporary=True),
    EngineError: _OURS,
    RouterError: _OURS,
    ModelNotFound: Fault(404, _INVALID, "model_not_found", "model"),
    RequestRefused: Fault(400, _INVALID, "unsupported_value"),
    ExpertRepeated: Fault(400, _INVALID, "repeated_expert", "experts"),
    NotReady: Fault(503, "server_error", "not_ready", is_temporary=True),
    KeyRefused: Fault(401, "authentication_error", "invalid_api_key"),
    ScopeMissing: Fault(403, "permission_error", "scope_missing"),
    ExpertForbidden: Fault(403, "permission_error", "expert_forbidden", "experts"),
    ServerFull: Fault(429, "rate_limit_error", "overloaded", is_temporary=True),
    KeyBusy: Fault(429, "rate_limit_error", "key_concurrency", is_temporary=True),
    ServerError: _OURS,
}

_HTTP_CODES = {
    404: "not_found",
    405: "method_not_allowed",
    408: "client_too_slow",
    413: "body_too_large",
    421: "host_not_allowed",
    431: "headers_too_large",
}


def fault_of(error: Exception) -> Fault:
    """What the table says about this error."""
    return next((FAULTS[kind] for kind in type(error).__mro__ if kind in FAULTS), _OURS)


def error_body(error: Exception) -> ErrorBody:
    """The error as a client may see it."""
    fault = fault_of(error)
    message = "internal error" if fault is _OURS else str(error)
    param = error.param if isinstance(error, RequestRefused) else fault.param
    return _body(message, fault.type, param, fault.code)


def error_response(error: Exception) -> Response:
    """The one handler: every exception that leaves a route ends here."""
    if isinstance(error, RequestValidationError):
        return _response(400, validation_body(error))
    if isinstance(error, HTTPException):
        code = _HTTP_CODES.get(error.status_code, "bad_request")
        body = _body(str(error.detail), _INVALID, None, code)
        return _response(error.status_code, body, dict(error.headers or {}))
    fault = fault_of(error)
    headers = {"retry-after": str(RETRY_AFTER_SECONDS)} if fault.is_temporary else {}
    if fault.status == 401:
        headers["www-authenticate"] = "Bearer"
    return _response(fault.status, error_body(error), headers)


def _response(status: int, body: ErrorBody, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, media_type="application/json")


def _body(message: str, kind: str, param: str | None, code: str) -> ErrorBody:
    return ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code))


def validation_body(error: RequestValidationError) -> ErrorBody:
    """The first faulty field, as `param`. Only a number is repeated as it was sent: text is private."""
    errors = error.errors()
    field = _field(errors[0]["loc"])
    # Where a field may be of several types, the complaint that got furthest is about the type that was meant.
    first = max((e for e in errors if _field(e["loc"]) == field), key=lambda e: len(e["loc"]))
    kind, message = str(first["type"]), str(first["msg"])
    source, *steps = first["loc"]
    path = str(steps[0]) if source == "header" else _path(tuple(steps))
    if kind == "json_invalid":
        return _body("the body is not valid JSON", _INVALID, None, "json_invalid")
    if not path and kind in ("missing", "model_attributes_type"):
        message = "send a JSON object, with the header 'content-type: application/json'"
    value = first.get("input")
    if isinstance(value, int | float):
        message = f"{message} (got {str(value)[:32]})"
    return _body(f"{path}: {message}" if path else message, _INVALID, path or None, kind)


def _field(location: Sequence[int | str]) -> list[int | str]:
    """The body's field, without the form that the body as a whole was taken for."""
    return [step for step in location if isinstance(step, int) or step.isidentifier()][:2]


_UNION_MEMBERS = ("str", "int", "ExpertChoice", "NamedTool", "Message")


def _path(location: tuple[int | str, ...]) -> str:
    """('messages', 0, 'role') -> messages[0].role, without the names of union members that pydantic adds."""
    path = ""
    for step in location:
        if isinstance(step, int):
            path += f"[{step}]"
        elif step.isidentifier() and step not in _UNION_MEMBERS:
            path += f".{step}" if path else step
    return path
