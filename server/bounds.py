"""What a request may use and take, as far as that can be said before any work: its time, its length, its experts.

Called by `generation.py`; knows neither HTTP nor how an answer is made.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from engine.errors import DeadlineExceeded, PromptTooLong
from router.decision import RouteDecision
from server.conversation import Turn, turns
from server.keys import Caller
from server.schemas import GenerateRequest
from server.security import ExpertForbidden
from server.services import Services


@asynccontextmanager
async def within(seconds: float | None) -> AsyncIterator[None]:
    """Raises DeadlineExceeded where what is inside takes longer; None is as long as it likes."""
    try:
        async with asyncio.timeout(seconds) as limit:
            yield
    except TimeoutError:
        if seconds is not None and limit.expired():
            raise DeadlineExceeded(seconds, None) from None
        raise


def check_length(services: Services, body: GenerateRequest) -> None:
    """Raises PromptTooLong for a text that cannot fit, however it is cut into tokens: tokenizing it takes seconds."""
    limit = services.engine.max_context - 1
    if isinstance(body.prompt, list):
        least = len(body.prompt)
    else:
        num_bytes = sum(map(_num_bytes, turns(body.turns, (body.tools or ()) if body.uses_tools else ())))
        least = -(-num_bytes // services.tokenizer.max_token_bytes)
    if least > limit:
        raise PromptTooLong(least, limit, is_least=True)


def _num_bytes(turn: Turn) -> int:
    """Of its text; markup is tokens of its own."""
    _, content = turn
    parts = (content,) if isinstance(content, str) else content
    return sum(len(part.encode()) for part in parts if isinstance(part, str))


def permitted(decision: RouteDecision, caller: Caller) -> RouteDecision:
    """The decision within the caller's experts: the router's others are left out, named ones raise ExpertForbidden."""
    if caller.experts is None:
        return decision
    forbidden = [expert.name for expert in decision.experts if not caller.may_use(expert.name)]
    if forbidden and decision.stage == "explicit":
        raise ExpertForbidden(forbidden[0])
    return replace(
        decision,
        experts=tuple(expert for expert in decision.experts if caller.may_use(expert.name)),
        reason="this key may not use what the router chose" if forbidden else decision.reason,
        scores={name: score for name, score in decision.scores.items() if caller.may_use(name)},
    )
