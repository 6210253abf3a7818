"""Logging setup and the two kinds of line that the server writes: one per request, and its own events.

Knows no room. A log line holds sizes, names and times, never a prompt, an answer or a grammar's text.
"""

import logging
import sys

LOGGER_NAME = "hotseat"


def configure(level: str) -> None:
    """All lines to standard error; of the libraries' only warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in (LOGGER_NAME, "engine"):
        logging.getLogger(ours).setLevel(level.upper())


def log_request(request_id: str, method: str, route: str, status: int, seconds: float) -> None:
    """One answered request. `route` is the route's pattern: a hostile path cannot write into the log."""
    # Probes and scrapes come every few seconds, all of them by GET.
    level = logging.DEBUG if method == "GET" else logging.INFO
    line = "request id=%s method=%s route=%s status=%d ms=%.1f"
    logging.getLogger(LOGGER_NAME).log(level, line, request_id, method, route, status, seconds * 1e3)


def log_event(message: str, **fields: str | int | float) -> None:
    """Something that happened to the server itself."""
    text = " ".join(f"{key}={value}" for key, value in fields.items())
    logging.getLogger(LOGGER_NAME).info("%s %s", message, text)


def log_fault(message: str, error: BaseException) -> None:
    """An error that is ours, with its traceback."""
    logging.getLogger(LOGGER_NAME).error(message, exc_info=error)
