"""One request's story, from its checked body to its last token.

    1 admission   a full queue is refused before any work
    2 route       which experts, and why
    3 fetch       their adapters into host memory, leased until the answer ends
    4 compile     the grammar
    5 submit      token ids in, token events out

Knows all rooms through `services.py`; knows neither HTTP nor which way the answer is sent. Called by
`exchange.py`.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar
from uuid import uuid4

from adapters_store.cache import Lease
from adapters_store.errors import PackageInvalid
from adapters_store.manifest import DecodingDefaults
from adapters_store.store import AdapterStore
from engine.errors import AdapterIncompatible
from engine.request import ExpertUse, FinishReason, GenerationRequest, SamplingParams, Thinking
from grammars import json_schema, spec
from router.decision import ExpertScore, RouteDecision, RouteQuery, in_eighths
from server.bounds import check_length, permitted, within
from server.conversation import turns
from server.errors import ExpertRepeated
from server.grammar_choice import asked_for, compile_grammar
from server.keys import ANYBODY, Caller
from server.schemas import GenerateRequest
from server.services import Grammar, Services, TextDecoder, TokenizerDoor, TokenStream
from server.text_reader import Finish, Piece, StopStrings, Streamed, Thought, Token, interleaved, read_text

_T = TypeVar("_T")
_SERVER_DEFAULTS = SamplingParams()
THINKING_TOKENS = 512
"""A request that thinks may think so long where it sets no limit of its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """One of the answers in the making."""

    tokens: TokenStream
    decoder: TextDecoder
    stops: StopStrings


@dataclass(frozen=True, slots=True)
class Running:
    """A request that the engine has taken. Whoever holds it calls `close`, however the answer ends."""

    id: str
    decision: RouteDecision
    route_ms: float
    experts: tuple[ExpertUse, ...]
    rows: tuple[Row, ...]
    tokenizer: TokenizerDoor
    json_schema: str | None
    """What the answer is to satisfy, if it is to be JSON of a schema."""
    leases: ExitStack
    can_think: bool = False
    """Whether the model may think first."""

    def cancel(self) -> None:
        """Stop what the engine still does for it. Harmless when repeated."""
        for row in self.rows:
            row.tokens.cancel()

    def close(self) -> None:
        """Cancel, and let go of the experts. Harmless when repeated."""
        with self.leases:
            self.cancel()


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    tokens: tuple[Token, ...]
    finish: Finish
    thinking: str = ""


async def begin(services: Services, body: GenerateRequest, caller: Caller = ANYBODY) -> Running:
    """Steps 1 to 5. Raises what the rooms raise, ExpertForbidden and DeadlineExceeded; nothing stays held then."""
    async with within(body.timeout):
        try:
            return await _begin(services, body, caller)
        except PackageInvalid:  # perhaps replaced after it was fetched, before the engine had its weights
            return await _begin(services, body, caller)


async def _begin(services: Services, body: GenerateRequest, caller: Caller) -> Running:
    services.engine.check_capacity()
    await services.router.refresh()
    started = time.perf_counter()
    check_length(services, body)
    choose = partial(choose_experts, services, body, caller.experts)
    decision = permitted(await asyncio.to_thread(choose) if body.experts == "auto" else choose(), caller)
    route_ms = (time.perf_counter() - started) * 1e3
    with ExitStack() as leases:
        experts = await fetch_experts(services, decision, leases)
        sampling = sampling_for(body, experts)
        prompt_ids, thinking = await asyncio.to_thread(read_prompt, services.tokenizer, body)
        if thinking is not None and body.max_tokens is None:  # a limit that nobody asked for is the answer's alone
            sampling = replace(sampling, max_tokens=sampling.max_tokens + thinking.longest)
        grammar = await compile_grammar(services, body, experts)
        request_id = f"gen-{uuid4().hex}"
        left = None if body.timeout is None else round(body.timeout - (time.perf_counter() - started), 3)
        salt = salt_of(caller, body)
        request = GenerationRequest(request_id, prompt_ids, experts, sampling, None, left, thinking, salt)
        rows = await submit(services, request, grammar, body)
        if services.prefetcher is not None:
            services.prefetcher.follow(decision)
        wanted = asked_for(body)
        return Running(
            id=request_id,
            decision=decision,
            route_ms=route_ms,
            experts=experts,
            rows=rows,
            tokenizer=services.tokenizer,
            json_schema=wanted.text if isinstance(wanted, spec.JsonSchema) else None,
            leases=leases.pop_all(),
            can_think=thinking is not None,
        )


def encode(tokenizer: TokenizerDoor, body: GenerateRequest) -> tuple[int, ...]:
    """The prompt's tokens."""
    if isinstance(body.prompt, list):
        return tuple(body.prompt)
    if body.is_raw:
        return tuple(tokenizer.encode_text(body.prompt or ""))
    told = turns(body.turns, (body.tools or ()) if body.uses_tools else ())
    return tokenizer.encode_chat(told, body.enable_thinking)


def read_prompt(tokenizer: TokenizerDoor, body: GenerateRequest) -> tuple[tuple[int, ...], Thinking | None]:
    """The prompt's tokens, and how the model thinks after them: never where they are taken as they are.

    Raises ThinkingUnsupported.
    """
    prompt_ids = encode(tokenizer, body)
    if body.is_raw:
        return prompt_ids, None
    budget = body.thinking_budget or (THINKING_TOKENS if body.max_tokens is None else max(1, body.max_tokens // 2))
    return prompt_ids, tokenizer.thinking(prompt_ids, body.enable_thinking, budget)


def salt_of(caller: Caller, body: GenerateRequest) -> str:
    """Under which prompts are kept: the key's own, divided further by what the client says."""
    return f"{caller.id}\n{body.cache_salt}" if body.cache_salt else caller.id


async def submit(
    services: Services, request: GenerationRequest, grammar: Grammar | None, body: GenerateRequest
) -> tuple[Row, ...]:
    """All answers or none: those that are on their way are cancelled if one is refused. Each has a seed of its own."""
    rows: list[Row] = []
    seed = request.sampling.seed
    try:
        for number in range(body.n or 1):
            sampling = replace(request.sampling, seed=None if seed is None else seed + number)
            matcher = None if grammar is None else grammar.matcher()
            tokens = await services.engine.submit(replace(request, sampling=sampling, matcher=matcher))
            stops = StopStrings(body.stop_strings, bool(body.include_stop_str_in_output))
            rows.append(Row(tokens, services.tokenizer.decoder(), stops))
    except BaseException:
        for row in rows:
            row.tokens.cancel()
        raise
    return tuple(rows)


async def answer(running: Running) -> AsyncIterator[list[Streamed] | tuple[Answer, ...]]:
    """The texts piece by piece, each with its end, together what came together; then all answers whole."""
    texts: list[list[str]] = [[] for _ in running.rows]
    thoughts: list[list[str]] = [[] for _ in running.rows]
    tokens: list[list[Token]] = [[] for _ in running.rows]
    ends: list[Finish | None] = [None for _ in running.rows]
    rows = [read_text(row.tokens, row.decoder, row.stops, index) for index, row in enumerate(running.rows)]
    async for parts in interleaved(rows):
        for place, part in enumerate(parts):
            match part:
                case Finish():
                    part = await _checked(running, "".join(texts[part.index]), part)
                    parts[place] = ends[part.index] = part
                case Thought():
                    thoughts[part.index].append(part.text)
                case Piece():
                    texts[part.index].append(part.text)
                    tokens[part.index] += part.tokens
        yield parts
    yield tuple(
        Answer("".join(text), tuple(read), end, "".join(thought))
        for text, thought, read, end in zip(texts, thoughts, tokens, ends, strict=True)
        if end is not None
    )


async def _checked(running: Running, text: str, finish: Finish) -> Finish:
    """With what the text lacks of its schema: all of it, if it was cut off."""
    if running.json_schema is None or finish.reason is FinishReason.CANCELLED:
        return finish
    problems = await asyncio.to_thread(json_schema.validate, text, json.loads(running.json_schema))
    return replace(finish, problems=tuple(problems))


def choose_experts(services: Services, body: GenerateRequest, allowed: frozenset[str] | None = None) -> RouteDecision:
    """The client's own choice, else the router's among those allowed (None: all), its weights rounded so that
    mixtures recur."""
    if body.experts == "auto":
        decision = services.router.route(RouteQuery(prompt_text(services, body), body.max_experts, allowed))
        experts = tuple(replace(expert, weight=in_eighths(expert.weight)) for expert in decision.experts)
        return replace(decision, experts=experts)
    chosen = tuple(
        ExpertScore(choice, 1.0) if isinstance(choice, str) else ExpertScore(choice.name, choice.weight)
        for choice in body.experts
    )
    reason = "the request names its experts" if chosen else "the request asks for the base"
    return RouteDecision(chosen, "explicit", reason, 1.0, {expert.name: expert.weight for expert in chosen})


def prompt_text(services: Services, body: GenerateRequest) -> str:
    """What the router reads."""
    if not isinstance(body.prompt, list):
        return body.user_text
    num_tokens = len(services.tokenizer)
    return services.tokenizer.decode([token for token in body.prompt if token < num_tokens])


async def fetch_experts(services: Services, decision: RouteDecision, leases: ExitStack) -> tuple[ExpertUse, ...]:
    """Read what is not in memory yet, off the event loop. Raises AdapterIncompatible and ExpertRepeated besides the
    store's errors."""
    uses: list[ExpertUse] = []
    for expert in decision.experts:
        began = time.perf_counter()
        lease = leases.enter_context(await fetch(services.store, expert.name))
        if not services.is_compatible(lease.adapter.manifest):
            raise AdapterIncompatible(expert.name, "it was made for another base than the one that runs")
        if lease.adapter.manifest.name in (use.adapter.manifest.name for use in uses):
            raise ExpertRepeated(expert.name)
        uses.append(ExpertUse(lease.adapter, expert.weight, time.perf_counter() - began))
    return tuple(uses)


async def fetch(store: AdapterStore, name: str) -> Lease:
    """A lease from a thread; if nobody waits for it any more when it comes, it is given back."""
    fetching = asyncio.ensure_future(asyncio.to_thread(store.fetch, name))
    try:
        return await asyncio.shield(fetching)
    except asyncio.CancelledError:
        fetching.add_done_callback(release_unwanted)
        raise


def release_unwanted(fetching: asyncio.Future[Lease]) -> None:
    if not fetching.cancelled() and fetching.exception() is None:
        fetching.result().release()


def sampling_for(body: GenerateRequest, experts: Sequence[ExpertUse]) -> SamplingParams:
    """The request's word, then the first expert's, then the server's."""
    expert = experts[0].adapter.manifest.decoding if experts else DecodingDefaults()
    server = _SERVER_DEFAULTS
    return SamplingParams(
        temperature=_first(body.temperature, expert.temperature, server.temperature),
        top_p=_first(body.top_p, expert.top_p, server.top_p),
        top_k=max(_first(body.top_k, expert.top_k, server.top_k), 0),
        min_p=_first(body.min_p, expert.min_p, server.min_p),
        repetition_penalty=_first(body.repetition_penalty, expert.repetition_penalty, server.repetition_penalty),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        logit_bias=tuple((int(token), bias) for token, bias in (body.logit_bias or {}).items()),
        seed=body.seed,
        max_tokens=_first(body.max_tokens, expert.max_tokens, server.max_tokens),
        min_tokens=body.min_tokens or 0,
        stop_ids=tuple(body.stop_token_ids or ()),
        ignore_eos=bool(body.ignore_eos),
        logprobs=body.logprobs,
    )


def _first(asked: _T | None, expert: _T | None, server: _T) -> _T:
    if asked is not None:
        return asked
    return server if expert is None else expert
