"""Where lines go, and at which level."""

import json
import logging

import pytest

from server import log


def test_our_lines_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    log.log_event("answer", id="gen-1", tokens=3)
    log.log_request("req-1", "POST", "/generate", 200, 0.0123)
    log.log_request("req-2", "GET", "/health", 200, 0.0123)
    captured = capsys.readouterr()
    assert "answer id=gen-1 tokens=3" in captured.err
    assert "request id=req-1 method=POST route=/generate status=200 ms=12.3" in captured.err
    assert "/health" not in captured.err  # a probe is worth a line to nobody
    assert captured.out == ""


def test_a_quieter_level_hides_them(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("error")
    log.log_event("answer", id="gen-1")
    assert capsys.readouterr().err == ""


def test_a_library_is_heard_only_when_it_warns(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("debug")
    logging.getLogger("httpx").info("chatter")
    logging.getLogger("uvicorn.error").warning("trouble")
    captured = capsys.readouterr().err
    assert "chatter" not in captured
    assert "trouble" in captured


def test_a_fault_comes_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    try:
        raise ZeroDivisionError("why")
    except ZeroDivisionError as error:
        log.log_fault("it failed", error)
    captured = capsys.readouterr().err
    assert "it failed" in captured
    assert "ZeroDivisionError: why" in captured


def test_a_line_of_json_is_one_object_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    log.log_event("answer\n{", id="gen-1", tokens=3)
    log.log_request("req-1", "POST", "/generate", 200, 0.0123, "abc")
    log.log_fault("it failed", ZeroDivisionError("why\nthat"))
    logging.getLogger("uvicorn.error").warning("trouble %s", "here")
    event, request, fault, other = map(json.loads, capsys.readouterr().err.splitlines())
    assert (event["message"], event["id"], event["tokens"]) == ("answer\n{", "gen-1", 3)
    assert (request["route"], request["status"], request["ms"], request["trace_id"]) == ("/generate", 200, 12.3, "abc")
    assert "ZeroDivisionError: why" in fault["traceback"] and fault["level"] == "error"
    assert (other["message"], other["logger"]) == ("trouble here", "uvicorn.error")


def test_a_value_is_one_word_in_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    log.log_event("answer", id="a status=200\nforged", plain="b")
    (line,) = capsys.readouterr().err.splitlines()
    assert 'id="a status=200\\nforged" plain=b' in line
