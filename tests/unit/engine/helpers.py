"""Asking an engine in a line."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from engine.request import (
    ExpertUse,
    FinishReason,
    GenerationRequest,
    SamplingParams,
    Timings,
    TokenLogprobs,
    TokenMatcher,
)
from engine.service import Engine
from tests.unit.engine.models import Reference


@dataclass(frozen=True, slots=True)
class Answer:
    ids: list[int]
    finish: FinishReason | None
    timings: Timings | None
    num_prompt_tokens: int
    num_cached_tokens: int
    logprobs: list[TokenLogprobs]


async def ask(
    engine: Engine,
    ids: Sequence[int],
    experts: Sequence[tuple[Reference, float]] = (),
    matcher: TokenMatcher | None = None,
    salt: str = "",
    **sampling: object,
) -> Answer:
    params = SamplingParams(**{"max_tokens": 12, **sampling})  # type: ignore[arg-type]
    uses = tuple(ExpertUse(reference.adapter, weight) for reference, weight in experts)
    return await answer_to(engine, GenerationRequest("test", tuple(ids), uses, params, matcher, salt=salt))


async def answer_to(engine: Engine, request: GenerationRequest) -> Answer:
    generation = await engine.submit(request)
    found: list[int] = []
    logprobs: list[TokenLogprobs] = []
    finish, timings = None, None
    async for event in generation:
        found += [] if event.token_id is None else [event.token_id]
        logprobs += [event.logprobs] if event.logprobs else []
        finish, timings = event.finish, event.timings
    return Answer(found, finish, timings, generation.num_prompt_tokens, generation.num_cached_tokens, logprobs)


async def ask_all(
    engine: Engine, asks: Sequence[tuple[Sequence[int], Sequence[tuple[Reference, float]]]]
) -> list[Answer]:
    return list(await asyncio.gather(*(ask(engine, ids, experts) for ids, experts in asks)))
