"""The engine's door for asyncio callers: load, start, submit, cancel, stop."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from adapters_store.fingerprint import base_fingerprint
from adapters_store.package import HostAdapter
from engine.adapter_forms import AdapterForms
from engine.budget import Budget, budget_of, fitted
from engine.config import EngineConfig
from engine.errors import (
    EngineOverloaded,
    EngineStopped,
    PromptTooLong,
    SamplingInvalid,
    TooManyExperts,
    UnsupportedModel,
)
from engine.generation import Generation, Mailbox
from engine.host_tier import HostTier
from engine.kv_blocks import BlockPool
from engine.loop import Cancel, EngineLoop, Submit, Unload
from engine.lowered_files import LoweredFiles
from engine.model.config import ModelConfig, fused_kind, read_config
from engine.model.delta import Delta
from engine.model.memory import give_back
from engine.model.transformer import Transformer
from engine.model.weights import are_kernels_there, load_transformer
from engine.request import GenerationRequest, SamplingParams, Thinking
from engine.runner import Runner
from engine.scheduler import Scheduler
from engine.sequence import Part, Sequence
from engine.stats import EngineStats
from engine.thinking import ThinkingGate
from engine.tier_stats import SwapTimes


class Engine:
    """One resident base, its slots and the thread that runs them."""

    def __init__(
        self, config: EngineConfig, shape: ModelConfig, model: Transformer, fingerprint: str, kv_blocks: int
    ) -> None:
        self.config, self.shape, self.fingerprint = config, shape, fingerprint
        forms, self._times = AdapterForms(config, shape, model, fingerprint), SwapTimes()
        files = forms.files()
        self._files = LoweredFiles(files, self._times) if files else None
        self._host = HostTier(forms, config.adapter_cache_bytes, self._files, self._times)
        self._model, self._kv_blocks = model, kv_blocks
        self._loop = self._new_loop()
        self._ids = itertools.count(1)
        self._mailbox: Mailbox | None = None

    @classmethod
    def load(cls, config: EngineConfig) -> "Engine":
        """Read and quantize the base; raises UnsupportedModel, or BudgetTooSmall before anything is read."""
        shape = read_config(config.base)
        if config.num_tokens > shape.vocab_size:
            raise UnsupportedModel(f"the tokenizer has {config.num_tokens} tokens, the model {shape.vocab_size} logits")
        if not are_kernels_there(fused_kind(config, shape)):
            config = replace(config, kernels="plain")
        config = fitted(config, shape)
        model = load_transformer(config, shape, config.kv_blocks)
        give_back()
        return cls(config, shape, model, base_fingerprint(config.base), config.kv_blocks)

    def start(self, on_crash: Callable[[], None] = lambda: None) -> None:
        """`on_crash` is called from the engine thread when it has died of an error and has failed all requests."""
        self._loop.on_crash = on_crash
        self._loop.start()

    def restart(self) -> None:
        """After a crash: a new thread, with an empty queue, cache and slots, over the same weights."""
        dead = self._loop
        dead.stop()
        self._loop = self._new_loop()
        self.start(dead.on_crash)

    async def warm_up(self) -> None:
        """A short request through the whole engine: what happens only once happens now. Raises what ends a request."""
        request = GenerationRequest(
            "warm-up", (0, 0), (), SamplingParams(max_tokens=2, ignore_eos=True), salt="warm-up"
        )
        async for _ in await self.submit(request):
            pass

    def stop(self) -> None:
        self._loop.stop()
        self._host.close()
        if self._files:
            self._files.close()

    @property
    def is_healthy(self) -> bool:
        return self._loop.is_running

    @property
    def device(self) -> str:
        return self.config.device

    @property
    def quantization(self) -> str:
        return self.config.quantization

    @property
    def num_logits(self) -> int:
        return self.shape.vocab_size

    @property
    def max_context(self) -> int:
        """Positions of one request, prompt and answer."""
        return self.config.max_context

    @property
    def budget(self) -> Budget:
        return budget_of(self.config, self.shape)

    def stats(self) -> EngineStats:
        tiers = {"host": self._host.stats(), **({"disk": self._files.stats()} if self._files else {})}
        stats = self._loop.snapshot()
        holdings = {**stats.holdings, "host": self._host.holdings()}
        return replace(stats, tiers={**stats.tiers, **tiers}, holdings=holdings)

    def wish(self, adapter: HostAdapter) -> None:
        """It may be asked for soon: bring it to host memory when nothing else is being made, if there is room."""
        self._host.wish(adapter)

    def count_verified(self, seconds: float) -> None:
        """A package was read and verified, which is a stage of the swap that follows."""
        self._times.count_stage("verify", seconds)

    def holds(self, generation: str) -> bool:
        """Whether it is lowered in host memory."""
        return self._host.holds(generation)

    def unload(self, generation: str) -> bool:
        """Free its host memory and its slot, or with the last request that uses it. Was it in host memory?"""
        with suppress(EngineStopped):
            self._loop.send(Unload(generation))
        return self._host.unload(generation)

    async def warm(self, adapter: HostAdapter) -> None:
        """Bring it to host memory, lowered if need be. Raises AdapterIncompatible or EngineStopped."""
        await self._host.get(adapter)

    def pin(self, names: frozenset[str]) -> None:
        """Experts whose lowered forms are not evicted from host memory, whatever the bound; slots they share."""
        self._host.pin(names)

    def check_capacity(self) -> None:
        """Raises EngineOverloaded when another request would exceed the queue."""
        queued = self._loop.num_queued
        if queued >= self.config.max_queue:
            raise EngineOverloaded(queued, self.config.max_queue)

    async def submit(self, request: GenerationRequest) -> Generation:
        """Lower the request's adapters if need be and queue it.

        Raises EngineOverloaded, PromptTooLong, SamplingInvalid, TooManyExperts, AdapterIncompatible or EngineStopped;
        the request's matcher is closed then.
        """
        submitted = time.monotonic()
        try:
            self.check_capacity()
            self._check_sampling(request.sampling)
            self._check_thinking(request.thinking)
            if not request.prompt_ids:
                raise SamplingInvalid("prompt_ids", "is empty, at least one token is needed")
            if len(request.experts) > self.config.num_slots:
                raise TooManyExperts(len(request.experts), self.config.num_slots)
            self._check_ids("prompt_ids", request.prompt_ids)
            uses = sorted(request.experts, key=lambda use: use.adapter.manifest.name)
            experts = tuple(await asyncio.gather(*(self._host.get(use.adapter) for use in uses)))
            deltas = tuple(expert.delta for expert in experts)
            sequence = self._sequence(request, deltas, [use.weight for use in uses], submitted)
            mailbox = self._mailbox_here()
            generation = Generation(sequence, lambda: self._cancel(sequence.id), mailbox)
            self.check_capacity()  # once more: others came while the adapters were lowered
            fetch_seconds = tuple(use.fetch_seconds for use in uses)
            self._loop.send(Submit(sequence, experts, generation.publish, fetch_seconds, mailbox.announce))
        except BaseException:
            if request.matcher:
                request.matcher.close()
            raise
        return generation

    def _new_loop(self) -> EngineLoop:
        blocks = BlockPool(self._kv_blocks, self.config.block_size)
        scheduler = Scheduler(self.config, blocks, self.shape.vocab_size, self.shape.eos_ids)
        return EngineLoop(scheduler, Runner(self.config, self._model), self._times)

    def _mailbox_here(self) -> Mailbox:
        """That of the running event loop; a server has one loop, and keeps it."""
        loop = asyncio.get_running_loop()
        if self._mailbox is None or self._mailbox.loop is not loop:
            self._mailbox = Mailbox(loop)
        return self._mailbox

    def _sequence(
        self, request: GenerationRequest, deltas: tuple[Delta, ...], weights: list[float], submitted: float
    ) -> Sequence:
        parts = tuple(Part(d.generation, d.name, w, d.num_virtual) for d, w in zip(deltas, weights, strict=True))
        length = len(request.prompt_ids) + sum(part.num_virtual for part in parts)
        if length >= self.config.max_context:
            raise PromptTooLong(length, self.config.max_context - 1)
        return Sequence(
            id=next(self._ids),
            prompt_ids=request.prompt_ids,
            parts=parts,
            sampling=request.sampling,
            matcher=request.matcher,
            gate=ThinkingGate(request.thinking, request.matcher) if request.thinking else None,
            max_length=self.config.max_context,
            salt=request.salt,
            deadline_s=min((d for d in (request.deadline_s, self.config.deadline_s) if d is not None), default=None),
            submitted=submitted,
        )

    def _check_sampling(self, sampling: SamplingParams) -> None:
        if sampling.logprobs is not None and sampling.logprobs < 0:
            raise SamplingInvalid("logprobs", f"is {sampling.logprobs}, at least 0 is needed")
        for field, ids in (
            ("logit_bias", [token for token, _ in sampling.logit_bias]),
            ("stop_ids", sampling.stop_ids),
        ):
            self._check_ids(field, ids)

    def _check_thinking(self, thinking: Thinking | None) -> None:
        if thinking is None:
            return
        if thinking.budget < 1:
            raise SamplingInvalid("thinking_budget", f"is {thinking.budget}, at least 1 is needed")
        ids = (thinking.open_id, thinking.close_id, *thinking.before_close, *thinking.after_close)
        self._check_ids("thinking", ids)

    def _check_ids(self, field: str, ids: Iterable[int]) -> None:
        for token in ids:
            if not 0 <= token < self.num_logits:
                raise SamplingInvalid(field, f"names token {token}, ids go from 0 to {self.num_logits - 1}")

    def _cancel(self, sequence_id: int) -> None:
        with suppress(EngineStopped):
            self._loop.send(Cancel(sequence_id))
