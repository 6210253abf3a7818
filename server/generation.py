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
from dataclasses import dataclass
from typing import TypeVar
from uuid import uuid4

from adapters_store.cache import Lease
from adapters_store.errors import PackageInvalid
from adapters_store.manifest import DecodingDefaults
from adapters_store.package import HostAdapter
from adapters_store.store import AdapterStore
from engine.errors import AdapterIncompatible
from engine.request import ExpertUse, GenerationRequest, SamplingParams, TokenMatcher
from grammars import library, spec
from grammars.errors import GrammarInvalid
from router.decision import ExpertScore, RouteDecision, RouteQuery
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
from server.streaming import Finish, StopStrings, read_text

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

    def close(self) -> None:
        """Stop what the engine still does for it and let go of its experts. Harmless when repeated."""
        with self.leases:
            self.tokens.cancel()


async def begin(services: Services, body: GenerateRequest) -> Running:
    """Steps 1 to 5. Raises what the rooms raise; nothing stays held then."""
    services.engine.check_capacity()
    started = time.perf_counter()
    decision = choose_experts(services, body)
    route_ms = (time.perf_counter() - started) * 1e3
    with ExitStack() as leases:
        experts = await fetch_experts(services, decision, leases)
        prompt_ids = await asyncio.to_thread(services.tokenizer.encode_chat, body.conversation)
        matcher = await compile_grammar(services, body, experts)
        request_id = f"gen-{uuid4().hex}"
        sampling = sampling_for(body, experts)
        tokens = await services.engine.submit(GenerationRequest(request_id, prompt_ids, experts, sampling, matcher))
        return Running(
            id=request_id,
            decision=decision,
            route_ms=route_ms,
            experts=experts,
            tokens=tokens,
            decoder=services.tokenizer.decoder(),
            stops=StopStrings(body.stop_strings),
            leases=leases.pop_all(),
        )


async def answer(running: Running) -> AsyncIterator[str | Reply]:
    """The text piece by piece, then the whole reply."""
    pieces: list[str] = []
    async for part in read_text(running.tokens, running.decoder, running.stops):
        if isinstance(part, Finish):
            yield reply_of(running, "".join(pieces), part)
        else:
            pieces.append(part)
            yield part


def choose_experts(services: Services, body: GenerateRequest) -> RouteDecision:
    """The client's own choice, else the router's, its weights rounded so that mixtures recur."""
    if body.experts == "auto":
        decision = services.router.route(RouteQuery(body.user_text, body.max_experts))
        experts = tuple(ExpertScore(expert.name, in_eighths(expert.weight)) for expert in decision.experts)
        return RouteDecision(experts, decision.stage, decision.reason, decision.confidence, decision.scores)
    chosen = tuple(
        ExpertScore(choice, 1.0) if isinstance(choice, str) else ExpertScore(choice.name, choice.weight)
        for choice in body.experts
    )
    reason = "the request names its experts" if chosen else "the request asks for the base"
    return RouteDecision(chosen, "explicit", reason, 1.0, {expert.name: expert.weight for expert in chosen})


def in_eighths(weight: float) -> float:
    """The nearest eighth; a chosen expert never vanishes."""
    return max(round(weight * 8), 1) / 8


async def fetch_experts(services: Services, decision: RouteDecision, leases: ExitStack) -> tuple[ExpertUse, ...]:
    """Read what is not in memory yet, off the event loop. Raises AdapterIncompatible besides the store's errors."""
    uses = []
    for expert in decision.experts:
        lease = leases.enter_context(await fetch(services.store, expert.name))
        if not services.is_compatible(lease.adapter.manifest):
            raise AdapterIncompatible(expert.name, "it was made for another base than the one that runs")
        uses.append(ExpertUse(lease.adapter, expert.weight))
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
    return compiler.compile_untrusted(source.gbnf, source.root, source.max_bytes)


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


def reply_of(running: Running, text: str, finish: Finish) -> Reply:
    """What the client is told about the answer."""
    decision, times = running.decision, finish.timings
    num_prompt = running.tokens.num_prompt_tokens
    return Reply(
        id=running.id,
        text=text,
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
