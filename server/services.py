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
from engine.request import GenerationRequest, Thinking, Timings, TokenEvent, TokenMatcher
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
from server.log import log_event, log_fault
from server.packages import policy_of
from server.prefetch import Prefetcher
from server.settings import Settings
from server.sizes import format_size

State = Literal["starting", "running", "restarting", "draining", "stopped", "failed"]
MAX_RESTARTS = 1
"""Of a crashed engine; what kills it twice needs a new process, or a person."""


class TokenStream(Protocol):
    """One submitted request. Cancelling twice, or after the end, is harmless."""

    @property
    def num_prompt_tokens(self) -> int: ...

    @property
    def num_cached_tokens(self) -> int: ...
    def batches(self) -> AsyncIterator[Sequence[TokenEvent]]:
        """What came since the last look, together."""

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
    def start(self, on_crash: Callable[[], None]) -> None: ...
    def restart(self) -> None: ...
    async def warm_up(self) -> None: ...
    def stop(self) -> None: ...
    def check_capacity(self) -> None: ...
    async def submit(self, request: GenerationRequest) -> TokenStream: ...
    def wish(self, adapter: HostAdapter) -> None: ...
    async def warm(self, adapter: HostAdapter) -> None: ...
    def stats(self) -> EngineStats: ...


class TextDecoder(Protocol):
    def push(self, token_id: int) -> str: ...
    def flush(self) -> str: ...


class TokenizerDoor(Protocol):
    @property
    def max_token_bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def encode_chat(self, messages: Sequence[tuple[str, Content]], thinking: bool = False) -> tuple[int, ...]: ...
    def thinking(self, prompt_ids: Sequence[int], is_wanted: bool, budget: int) -> Thinking | None: ...
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
        on_pins=engine.pin,
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
        self._restarting: asyncio.Task[None] | None = None
        self.state: State = "starting"
        self.num_restarts = 0

    async def start(self) -> Services:
        """Build, start and warm up the rooms without holding up the event loop."""
        loop = asyncio.get_running_loop()

        def crashed() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(self._on_crash)

        try:
            self._services = services = await asyncio.to_thread(self._build)
            services.engine.start(crashed)
            await services.engine.warm_up()
        except BaseException:
            self.state = "failed" if self.state == "starting" else self.state
            raise
        self.state = "running" if self.state == "starting" else self.state
        return services

    def drain(self) -> None:
        """Refuse what comes from now on; what runs goes on."""
        self.state = "draining"

    async def stop(self) -> None:
        """Refuse what comes now, then end the engine's thread and the process that tries grammars."""
        self.state = "stopped"
        if self._restarting is not None:
            await asyncio.wait({self._restarting})
        services, self._services = self._services, None
        if services is not None:
            if services.prefetcher is not None:
                services.prefetcher.close()
            await asyncio.to_thread(services.engine.stop)
            await asyncio.to_thread(services.compiler.close)

    def _on_crash(self) -> None:
        """The engine's thread has died and has failed what ran and waited."""
        if self.state != "running":
            return
        if self.num_restarts >= MAX_RESTARTS:
            self.state = "failed"
            return
        self.num_restarts += 1
        self.state = "restarting"
        self._restarting = asyncio.create_task(self._restart())
        self._restarting.add_done_callback(self._restarted)

    async def _restart(self) -> None:
        assert self._services is not None
        log_event("the engine has died and is started again", restart=self.num_restarts)
        await asyncio.to_thread(self._services.engine.restart)
        await self._services.engine.warm_up()

    def _restarted(self, restart: asyncio.Task[None]) -> None:
        error = None if restart.cancelled() else restart.exception()
        if error is not None:
            log_fault("the engine could not be started again", error)
        if self.state == "restarting":
            self.state = "running" if error is None else "failed"

    @property
    def is_ready(self) -> bool:
        return self.state == "running" and self.is_healthy

    @property
    def is_healthy(self) -> bool:
        """False while the engine is dead: until it has been started again, or until the process is."""
        if self.state in ("failed", "restarting"):
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
