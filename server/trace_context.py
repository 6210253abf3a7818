"""W3C trace context: the trace that a request belongs to, continued from the client's `traceparent` or begun here.

Leaf module; `middleware.py` puts it on each request, logs and spans name it.
"""

import re
import secrets
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_ZEROS = re.compile(r"0+")


@dataclass(frozen=True, slots=True)
class Trace:
    """Ids in lower-case hexadecimal digits."""

    trace_id: str
    parent_id: str | None
    """The client's span; None where the trace begins here."""
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def continued(traceparent: str) -> Trace:
    """The client's trace with a span of ours; a new one, not sampled, where there is none to continue."""
    found = _TRACEPARENT.fullmatch(traceparent)
    span_id = secrets.token_hex(8)
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return Trace(secrets.token_hex(16), None, span_id, "00")
    if _ZEROS.fullmatch(found[2]) or _ZEROS.fullmatch(found[3]):
        return Trace(secrets.token_hex(16), None, span_id, "00")
    return Trace(found[2], found[3], span_id, found[4])
