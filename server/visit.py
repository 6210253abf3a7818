"""Who came with a request, and how long they wait: what a route knows besides the body. One for every form.

Knows HTTP and keys, no form and no answer. `exchange.py` takes a visit with each body.
"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header, Request

from server.keys import Caller
from server.schemas import GenerateRequest
from server.security import may_generate
from server.trace_context import Trace

Seconds = Annotated[
    float | None,
    Header(gt=0, le=86_400, allow_inf_nan=False, description="As `timeout` in the body; the shorter one counts."),
]


@dataclass(frozen=True, slots=True)
class Visit:
    """One HTTP request and its caller."""

    request: Request
    caller: Caller
    seconds: float | None = None
    """What the header allows it to take; None leaves it to the body."""

    @property
    def id(self) -> str:
        return str(self.request.scope["state"]["request_id"])

    @property
    def trace(self) -> Trace:
        trace: Trace = self.request.scope["state"]["trace"]
        return trace

    def bounded(self, body: GenerateRequest) -> GenerateRequest:
        """The body with the shorter of both limits."""
        if self.seconds is None:
            return body
        return body.model_copy(update={"timeout": min(self.seconds, body.timeout or self.seconds)})


async def visit_of(
    request: Request, caller: Annotated[Caller, Depends(may_generate)], x_request_timeout: Seconds = None
) -> Visit:
    """Dependency of every route that works for the scope `generate`; the policy itself stands on the route."""
    return Visit(request, caller, x_request_timeout)


Visitor = Annotated[Visit, Depends(visit_of)]
