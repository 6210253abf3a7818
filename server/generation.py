"""One request's story, from its checked body to its last token.

    1 admission   a full queue is refused before any work
    2 route       which experts, and why
    3 fetch       their adapters into host memory, leased until the answer ends
    4 compile     the grammar
    5 submit      token ids in, token events out

Knows all rooms through `services.py`; knows neither HTTP nor which way the answer is sent. Called by
`routes.py`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import uuid4

from adapters_store.cache import Lease
from adapters_store.errors import PackageInvalid
from adapters_store.manifest import DecodingDefaults
from adapters_store.package import HostAdapter
from adapters_store.store import AdapterStore
from engine.errors import AdapterIncompatible
from engine.request import ExpertUse, GenerationRequest, SamplingParams, Thinking, TokenMatcher
from grammars import library, spec
from grammars.errors import GrammarInvalid
from router.decision import ExpertScore, RouteDecision, RouteQuery, in_eighths
from server.bounds import check_length, permitted, within
from server.errors import ExpertRepeated
from server.keys import ANYBODY, Caller
from server.schemas import (
    ChoiceGrammar,
    ExpertUsed,
    GbnfGrammar,
    GenerateRequest,
    GrammarField,
    NarrowedGrammar,
    RegexGrammar,
    Reply,
    Routing,
    SchemaGrammar,
    Timings,
    Usage,
)
from server.services import CompilerDoor, Grammar, Services, TextDecoder, TokenStream
from server.streaming import Finish, StopStrings, Thought, read_text

_T = TypeVar("_T")
_SERVER_DEFAULTS = SamplingParams()


@dataclass(frozen=True, slots=True)
class Running:
    """A request that the engine has taken. Whoever holds it calls `close`, however the answer ends."""

    id: str
    decision: RouteDecision
    route_ms: float
    experts: tuple[ExpertUse, ...]
    tokens: TokenStream
    decoder: TextDecoder
    stops: StopStrings
    leases: ExitStack
    can_think: bool = False
    """Whether the model may think first."""

    def close(self) -> None:
        """Stop what the engine still does for it and let go of its experts. Harmless when repeated."""
        with self.leases:
            self.tokens.cancel()


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
    decision = permitted(await asyncio.to_thread(choose_experts, services, body, caller.experts), caller)
    route_ms = (time.perf_counter() - started) * 1e3
    with ExitStack() as leases:
        experts = await fetch_experts(services, decision, leases)
        sampling = sampling_for(body, experts)
        prompt_ids, thinking = await asyncio.to_thread(read_prompt, services, body, sampling.max_tokens)
        matcher = await compile_grammar(services, body, experts)
        request_id = f"gen-{uuid4().hex}"
        left = None if body.timeout is None else round(body.timeout - (time.perf_counter() - started), 3)
        request = GenerationRequest(request_id, prompt_ids, experts, sampling, matcher, left, thinking, caller.id)
        tokens = await services.engine.submit(request)
        if services.prefetcher is not None:
            services.prefetcher.follow(decision)
        return Running(
            id=request_id,
            decision=decision,
            route_ms=route_ms,
            experts=experts,
            tokens=tokens,
            decoder=services.tokenizer.decoder(),
            stops=StopStrings(body.stop_strings),
            leases=leases.pop_all(),
            can_think=thinking is not None,
        )


def read_prompt(services: Services, body: GenerateRequest, max_tokens: int) -> tuple[tuple[int, ...], Thinking | None]:
    """The prompt's ids, and how the model thinks after them. Raises ThinkingUnsupported."""
    tokenizer, is_wanted = services.tokenizer, body.enable_thinking
    prompt_ids = tokenizer.encode_chat(body.conversation, is_wanted)
    return prompt_ids, tokenizer.thinking(prompt_ids, is_wanted, body.thinking_budget or max(1, max_tokens // 2))


async def answer(running: Running) -> AsyncIterator[str | Thought | Reply]:
    """The texts piece by piece, then the whole reply."""
    pieces: list[str] = []
    thoughts: list[str] = []
    async for part in read_text(running.tokens, running.decoder, running.stops):
        match part:
            case Finish():
                yield reply_of(running, "".join(pieces), "".join(thoughts), part)
                continue
            case Thought(text):
                thoughts.append(text)
            case text:
                pieces.append(text)
        yield part


def choose_experts(services: Services, body: GenerateRequest, allowed: frozenset[str] | None = None) -> RouteDecision:
    """The client's own choice, else the router's among those allowed (None: all), its weights rounded so that
    mixtures recur."""
    if body.experts == "auto":
        decision = services.router.route(RouteQuery(body.user_text, body.max_experts, allowed))
        experts = tuple(replace(expert, weight=in_eighths(expert.weight)) for expert in decision.experts)
        return replace(decision, experts=experts)
    chosen = tuple(
        ExpertScore(choice, 1.0) if isinstance(choice, str) else ExpertScore(choice.name, choice.weight)
        for choice in body.experts
    )
    reason = "the request names its experts" if chosen else "the request asks for the base"
    return RouteDecision(chosen, "explicit", reason, 1.0, {expert.name: expert.weight for expert in chosen})


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


async def compile_grammar(
    services: Services, body: GenerateRequest, experts: Sequence[ExpertUse]
) -> TokenMatcher | None:
    """One sequence's grammar state, or None where the text is free. Raises what the grammars raise."""
    if (name := library_name(body.grammar, experts)) is not None:
        compiled = await asyncio.to_thread(services.compiler.compile, library.text(name))
        return compiled.matcher()
    theirs = package_grammar(experts) if body.grammar == "auto" else asked_for(body)
    if theirs is None:
        return None
    async with services.grammar_turns:
        compiled = await asyncio.to_thread(compile_theirs, services.compiler, theirs)
    return compiled.matcher()


def compile_theirs(compiler: CompilerDoor, theirs: HostAdapter | spec.Spec) -> Grammar:
    """A grammar of a client's or of a package's; what is wrong with the latter is not the client's fault."""
    if isinstance(theirs, HostAdapter):
        try:
            return compiler.compile_untrusted(theirs.grammar or "", "root", spec.MAX_MADE_BYTES)
        except GrammarInvalid as fault:
            raise PackageInvalid(theirs.manifest.name, str(fault)) from fault
    source = spec.source(theirs)
    return compiler.compile_untrusted(source.gbnf, source.root, source.max_bytes, source.is_searched)


def asked_for(body: GenerateRequest) -> spec.Spec | None:
    """The wire's form as the grammars know it."""
    match grammar := body.grammar:
        case GbnfGrammar():
            return spec.Gbnf(grammar.gbnf, grammar.root)
        case ChoiceGrammar():
            return spec.OneOf(tuple(grammar.choice))
        case SchemaGrammar():
            return spec.JsonSchema(grammar.text)
        case RegexGrammar():
            return spec.Pattern(grammar.regex)
        case NarrowedGrammar():
            if grammar.schema_text is None:
                return spec.NarrowedByPrompt(grammar.library, body.told_text)
            return spec.Narrowed(grammar.library, grammar.schema_text)
    return None


def library_name(wanted: GrammarField | None, experts: Sequence[ExpertUse]) -> str | None:
    """The library grammar that the request or, for `auto`, its heaviest expert names."""
    if wanted != "auto":
        return wanted if isinstance(wanted, str) else None
    reference = heaviest(experts).manifest.grammar if experts else None
    return reference.library if reference is not None else None


def package_grammar(experts: Sequence[ExpertUse]) -> HostAdapter | None:
    """The heaviest expert if it brings a grammar of its own."""
    adapter = heaviest(experts) if experts else None
    return adapter if adapter is not None and adapter.grammar is not None else None


def heaviest(experts: Sequence[ExpertUse]) -> HostAdapter:
    """The expert with the highest weight; of equals, the first."""
    return max(experts, key=lambda use: use.weight).adapter


def sampling_for(body: GenerateRequest, experts: Sequence[ExpertUse]) -> SamplingParams:
    """The request's word, then the first expert's, then the server's."""
    expert = experts[0].adapter.manifest.decoding if experts else DecodingDefaults()
    server = _SERVER_DEFAULTS
    return SamplingParams(
        temperature=_first(body.temperature, expert.temperature, server.temperature),
        top_p=_first(body.top_p, expert.top_p, server.top_p),
        top_k=_first(body.top_k, expert.top_k, server.top_k),
        min_p=_first(body.min_p, expert.min_p, server.min_p),
        repetition_penalty=_first(body.repetition_penalty, expert.repetition_penalty, server.repetition_penalty),
        max_tokens=_first(body.max_tokens, expert.max_tokens, server.max_tokens),
        seed=body.seed,
    )


def _first(asked: _T | None, expert: _T | None, server: _T) -> _T:
    if asked is not None:
        return asked
    return server if expert is None else expert


def reply_of(running: Running, text: str, thinking: str, finish: Finish) -> Reply:
    """What the client is told about the answer."""
    decision, times = running.decision, finish.timings
    num_prompt = running.tokens.num_prompt_tokens
    return Reply(
        id=running.id,
        text=text,
        thinking=thinking if running.can_think else None,
        finish_reason=finish.reason,
        experts=[
            ExpertUsed(
                name=use.adapter.manifest.name,
                version=use.adapter.manifest.version,
                kind=use.adapter.manifest.kind_label,
                weight=use.weight,
            )
            for use in running.experts
        ],
        routing=Routing(
            stage=decision.stage,
            reason=decision.reason,
            confidence=decision.confidence,
            scores=dict(decision.scores),
        ),
        usage=Usage(
            prompt_tokens=num_prompt,
            cached_tokens=running.tokens.num_cached_tokens,
            completion_tokens=finish.num_tokens,
            thinking_tokens=finish.num_thinking,
            total_tokens=num_prompt + finish.num_tokens,
        ),
        timings=Timings(
            queue_ms=round(times.queue_ms, 3),
            route_ms=round(running.route_ms, 3),
            swap_ms=round(times.swap_ms, 3),
            first_token_ms=round(times.first_token_ms, 3),
            total_ms=round(times.total_ms, 3),
        ),
    )
