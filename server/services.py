"""The composition root: builds the rooms from the settings, starts and stops them in order.

Also says what the server needs of the engine, the tokenizer and the grammar compiler (the tests have small
ones of their own). Knows every room's constructor and nothing of HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from adapters_store.light import LightReader
from adapters_store.manifest import Manifest
from adapters_store.package import HostAdapter, read_package
from adapters_store.store import AdapterStore
from engine.budget import Budget
from engine.request import GenerationRequest, Timings, TokenEvent, TokenMatcher
from engine.service import Engine
from engine.stats import EngineStats
from engine.tokenizer import Content, Tokenizer
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarUntried
from grammars.trial import Trial
from grammars.vocabulary import vocabulary_for
from router.decision import RouteDecision, RouteQuery
from router.encoder import Encoder
from server.base import BASE_FILES, resolve_base
from server.engine_config import engine_config
from server.errors import NotReady
from server.live_router import LiveRouter, trained_router
from server.packages import policy_of
from server.prefetch import Prefetcher
from server.settings import Settings
from server.sizes import format_size

State = Literal["starting", "running", "stopped", "failed"]


class TokenStream(Protocol):
    """One submitted request. Cancelling twice, or after the end, is harmless."""

    @property
    def num_prompt_tokens(self) -> int: ...

    @property
    def num_cached_tokens(self) -> int: ...
    def __aiter__(self) -> AsyncIterator[TokenEvent]: ...
    def timings(self) -> Timings: ...
    def cancel(self) -> None: ...


class EngineDoor(Protocol):
    @property
    def fingerprint(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def quantization(self) -> str: ...
    @property
    def max_context(self) -> int: ...
    @property
    def is_healthy(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def check_capacity(self) -> None: ...
    async def submit(self, request: GenerationRequest) -> TokenStream: ...
    def wish(self, adapter: HostAdapter) -> None: ...
    def stats(self) -> EngineStats: ...


class TextDecoder(Protocol):
    def push(self, token_id: int) -> str: ...
    def flush(self) -> str: ...


class TokenizerDoor(Protocol):
    def __len__(self) -> int: ...
    def encode_chat(self, messages: Sequence[tuple[str, Content]]) -> tuple[int, ...]: ...
    def encode_text(self, text: str) -> list[int]: ...
    def decode(self, token_ids: Sequence[int]) -> str: ...
    def token_bytes(self, token_id: int) -> bytes: ...
    def decoder(self) -> TextDecoder: ...


class Grammar(Protocol):
    def matcher(self) -> TokenMatcher: ...


class CompilerDoor(Protocol):
    def compile(self, gbnf: str) -> Grammar: ...
    def compile_untrusted(self, gbnf: str, root: str, max_bytes: int, is_searched: bool = True) -> Grammar: ...
    def close(self) -> None: ...


class RouterDoor(Protocol):
    async def refresh(self) -> None: ...
    def route(self, query: RouteQuery) -> RouteDecision: ...


@dataclass(frozen=True, slots=True)
class Services:
    """The rooms of one running server. The router knows only experts that were made for this base."""

    base_name: str
    engine: EngineDoor
    tokenizer: TokenizerDoor
    store: AdapterStore
    router: RouterDoor
    compiler: CompilerDoor
    memory: str = ""
    """What the engine holds, in a line for people."""
    grammar_turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Threads that strangers' grammars may keep waiting at once; the others are for everybody's work."""
    prefetcher: Prefetcher | None = None
    encoder: Encoder | None = None
    """The router's, whose vectors can be asked for."""

    def is_compatible(self, manifest: Manifest) -> bool:
        return manifest.base == self.engine.fingerprint


def build_services(settings: Settings) -> Services:
    """Load the base and open the experts. Blocks for as long as loading takes; the engine is not started."""
    base_name = settings.base.name
    settings = settings.model_copy(update={"base": resolve_base(settings.base, settings.revision, BASE_FILES)})
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    tokenizer = Tokenizer.load(settings.base)
    engine = Engine.load(engine_config(settings, len(tokenizer), has_cuda=torch.cuda.is_available()))
    policy = policy_of(settings)
    store = AdapterStore(
        settings.experts,
        settings.host_memory_bytes,
        LightReader(lambda directory: read_package(directory, policy), on_read=engine.count_verified),
        policy,
        on_unload=engine.unload,
    )
    vocabulary = vocabulary_for(tokenizer.hf, engine.num_logits, tuple(sorted(tokenizer.eos_ids)), settings.cache_dir)
    trial = Trial(vocabulary.native.path)
    with suppress(GrammarUntried):  # told to whoever sends a grammar; the others can be served
        trial.start()
    trained = trained_router(settings)
    return Services(
        base_name=base_name,
        engine=engine,
        tokenizer=tokenizer,
        store=store,
        router=LiveRouter(store, engine.fingerprint, trained),
        compiler=GrammarCompiler(vocabulary, trial=trial),
        memory=memory_line(engine.budget),
        prefetcher=Prefetcher(store, engine.wish, lambda adapter: adapter.manifest.base == engine.fingerprint),
        encoder=trained.encoder,
    )


def memory_line(budget: Budget) -> str:
    """Where the memory goes, and how many tokens that is."""
    return (
        f"weights {format_size(budget.weights)} · {budget.num_slots} slots {format_size(budget.slots)}"
        f" · KV {format_size(budget.kv)}, {budget.kv_tokens:,} tokens · a step at most {format_size(budget.step)}"
        + (f" · free {format_size(budget.free)}" if budget.given else "")
    )


class Lifecycle:
    """Where the server is between its first second and its last. The event loop's thread owns it."""

    def __init__(self, build: Callable[[], Services]) -> None:
        self._build = build
        self._services: Services | None = None
        self.state: State = "starting"

    async def start(self) -> Services:
        """Build and start the rooms without holding up the event loop."""
        try:
            services = await asyncio.to_thread(self._build)
            services.engine.start()
        except BaseException:
            self.state = "failed"
            raise
        self._services, self.state = services, "running"
        return services

    async def stop(self) -> None:
        """Refuse what comes now, then end the engine's thread and the process that tries grammars."""
        self.state = "stopped"
        if self._services is not None:
            if self._services.prefetcher is not None:
                self._services.prefetcher.close()
            await asyncio.to_thread(self._services.engine.stop)
            await asyncio.to_thread(self._services.compiler.close)

    @property
    def is_ready(self) -> bool:
        return self.state == "running" and self.is_healthy

    @property
    def is_healthy(self) -> bool:
        """False once the engine's thread has died; only a restart helps then."""
        if self.state == "failed":
            return False
        return self.state != "running" or (self._services is not None and self._services.engine.is_healthy)

    @property
    def services(self) -> Services | None:
        """The rooms while they run."""
        return self._services if self.state == "running" else None

    def require(self) -> Services:
        """The rooms, or NotReady."""
        if (services := self.services) is None:
            raise NotReady(self.state)
        return services
