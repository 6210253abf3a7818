"""Where lines go, and at which level."""

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
