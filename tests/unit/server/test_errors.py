"""The table from exceptions to answers."""

import json

import pytest
from starlette.exceptions import HTTPException

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
    PromptTooLong,
    TooManyExperts,
)
from grammars.errors import (
    GrammarError,
    GrammarInvalid,
    GrammarUnknown,
    GrammarUntried,
    GrammarViolation,
    SchemaTextInvalid,
)
from router.errors import RouterError
from server.errors import FAULTS, ExpertRepeated, NotReady, error_response, fault_of
from server.settings import ServerError


@pytest.mark.parametrize(
    ("error", "status", "code", "param"),
    [
        (ExpertNotFound("x", ["sql"]), 404, "expert_not_found", "experts"),
        (PackageInvalid("x", "broken"), 503, "expert_broken", "experts"),
        (GenerationConflict("x", "a", "b"), 409, "generation_conflict", "expected"),
        (NameTaken("x", "an expert"), 409, "name_taken", None),
        (NoStandby("x"), 409, "no_standby", None),
        (StoreReadOnly("x", "Read-only file system"), 503, "store_read_only", None),
        (ExpertRepeated("x"), 400, "repeated_expert", "experts"),
        (StoreFull("x", 3, 2, 2), 503, "host_memory_full", "experts"),
        (GrammarUnknown("x", ["json"]), 400, "grammar_unknown", "grammar"),
        (SchemaTextInvalid(2, "no columns"), 400, "schema_invalid", "grammar"),
        (GrammarInvalid("no root", 2, 5), 400, "grammar_invalid", "grammar"),
        (GrammarUntried("no process"), 503, "grammar_unchecked", "grammar"),
        (GrammarViolation(7), 500, "internal_error", None),
        (EngineOverloaded(8, 8), 429, "overloaded", None),
        (DeadlineExceeded(2.5, 7), 504, "deadline_exceeded", None),
        (PromptTooLong(9000, 4096), 400, "prompt_too_long", "prompt"),
        (TooManyExperts(5, 4), 400, "too_many_experts", "experts"),
        (AdapterIncompatible("x", "rank 99"), 400, "expert_incompatible", "experts"),
        (EngineStopped("stopped"), 503, "engine_stopped", None),
        (NotReady("starting"), 503, "not_ready", None),
        (HTTPException(404, "Not Found"), 404, "not_found", None),
        (HTTPException(405, "Method Not Allowed"), 405, "method_not_allowed", None),
        (ZeroDivisionError("secret"), 500, "internal_error", None),
    ],
)
def test_an_exception_has_its_status_code_and_param(
    error: Exception, status: int, code: str, param: str | None
) -> None:
    response = error_response(error)
    detail = json.loads(bytes(response.body))["error"]
    assert (response.status_code, detail["code"], detail["param"]) == (status, code, param)
    assert set(detail) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("error", [EngineOverloaded(8, 8), NotReady("starting"), EngineStopped("stopped")])
def test_a_temporary_fault_says_when_to_come_back(error: Exception) -> None:
    assert error_response(error).headers["retry-after"] == "1"


def test_a_lasting_fault_does_not_ask_to_come_back() -> None:
    assert "retry-after" not in error_response(ExpertNotFound("x", [])).headers


def test_an_error_of_ours_says_nothing_about_itself() -> None:
    assert b"secret" not in error_response(ZeroDivisionError("secret")).body


def test_a_message_names_the_value_and_the_limit() -> None:
    detail = json.loads(bytes(error_response(PromptTooLong(9000, 4096)).body))["error"]
    assert "9000" in detail["message"]
    assert "4096" in detail["message"]


@pytest.mark.parametrize("base", [StoreError, GrammarError, RouterError, EngineError, ServerError])
def test_an_unlisted_error_of_any_room_is_a_fault_of_ours(base: type[Exception]) -> None:
    class Unlisted(base):  # type: ignore[valid-type, misc]
        pass

    assert fault_of(Unlisted("a limit")).status == 500


def test_every_fault_has_a_type_that_fits_its_status() -> None:
    kinds = {
        400: {"invalid_request_error"},
        401: {"authentication_error"},
        403: {"permission_error"},
        404: {"not_found_error", "invalid_request_error"},  # the latter is OpenAI's for a model
        409: {"conflict_error"},
        429: {"rate_limit_error"},
        500: {"server_error"},
        503: {"server_error", "overloaded_error"},
        504: {"server_error"},
    }
    assert all(fault.type in kinds[fault.status] for fault in FAULTS.values())
