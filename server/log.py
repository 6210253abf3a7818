"""Logging setup and the kinds of line that the server writes: one per request, its own events, and faults.

Knows no room. A log line holds sizes, names and times, never a prompt, an answer or a grammar's text. Its fields are
data: `text` shows them as key=value, `json` writes one object per line.
"""

import json
import logging
import sys
from datetime import UTC, datetime

LOGGER_NAME = "hotseat"
Field = str | int | float


class TextFormatter(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        return " ".join([line, *(f"{key}={_shown(value)}" for key, value in fields_of(record).items())])


class JsonFormatter(logging.Formatter):
    """For programs: one object per line, whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        data: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            data["traceback"] = self.formatException(record.exc_info)
        return json.dumps(data, ensure_ascii=False, default=str)


def configure(level: str, style: str = "text") -> None:
    """All lines to standard error; of the libraries' only warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for ours in (LOGGER_NAME, "engine"):
        logging.getLogger(ours).setLevel(level.upper())


def fields_of(record: logging.LogRecord) -> dict[str, Field]:
    """What a line of ours says beside its message."""
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


def log_request(request_id: str, method: str, route: str, status: int, seconds: float, trace_id: str = "") -> None:
    """One answered request. `route` is the route's pattern: a hostile path cannot write into the log."""
    # Probes and scrapes come every few seconds, all of them by GET.
    level = logging.DEBUG if method == "GET" else logging.INFO
    fields: dict[str, Field] = {"id": request_id, "method": method, "route": route, "status": status}
    fields["ms"] = round(seconds * 1e3, 1)
    if trace_id:
        fields["trace_id"] = trace_id
    _log(level, "request", fields)


def log_event(message: str, **fields: Field) -> None:
    """Something that happened to the server itself."""
    _log(logging.INFO, message, fields)


def log_fault(message: str, error: BaseException) -> None:
    """An error that is ours, with its traceback."""
    logging.getLogger(LOGGER_NAME).error(message, exc_info=error)


def _log(level: int, message: str, fields: dict[str, Field]) -> None:
    logging.getLogger(LOGGER_NAME).log(level, message, extra={"fields": fields})


def _shown(value: Field) -> str:
    """As one word, so that a value cannot look like another field or another line."""
    text = str(value)
    return text if text.isprintable() and " " not in text and '"' not in text else json.dumps(text)
