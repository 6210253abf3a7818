"""Asking an engine in a line."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from engine.request import ExpertUse, FinishReason, GenerationRequest, SamplingParams, Timings, TokenMatcher
from engine.service import Engine
from tests.unit.engine.models import Reference


@dataclass(frozen=True, slots=True)
class Answer:
    ids: list[int]
    finish: FinishReason | None
    timings: Timings | None
    num_prompt_tokens: int


async def ask(
    engine: Engine,
    ids: Sequence[int],
    experts: Sequence[tuple[Reference, float]] = (),
    matcher: TokenMatcher | None = None,
    **sampling: object,
) -> Answer:
    params = SamplingParams(**{"max_tokens": 12, **sampling})  # type: ignore[arg-type]
    uses = tuple(ExpertUse(reference.adapter, weight) for reference, weight in experts)
    generation = await engine.submit(GenerationRequest("test", tuple(ids), uses, params, matcher))
    found: list[int] = []
    finish, timings = None, None
    async for event in generation:
        if event.token_id is not None:
            found.append(event.token_id)
        finish, timings = event.finish, event.timings
    return Answer(found, finish, timings, generation.num_prompt_tokens)


async def ask_all(
    engine: Engine, asks: Sequence[tuple[Sequence[int], Sequence[tuple[Reference, float]]]]
) -> list[Answer]:
    return list(await asyncio.gather(*(ask(engine, ids, experts) for ids, experts in asks)))
