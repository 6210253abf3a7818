"""Small real stand-ins for what needs a model: a tokenizer of bytes, an engine that answers by a rule.

They keep the promises of `server/services.py`, with real asynchronous iteration and cancelling, so the server
above them runs unchanged. Experts are real packages on disk, read by the real store.
"""

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save

from adapters_store.manifest import (
    AdapterSpec,
    DecodingDefaults,
    GrammarRef,
    Manifest,
    RoutingHints,
)
from adapters_store.package import HostAdapter, write_package
from adapters_store.store import AdapterStore
from engine.errors import EngineOverloaded, EngineStopped, PromptTooLong, ThinkingUnsupported
from engine.request import FinishReason, GenerationRequest, TextPart, Thinking, Timings, TokenEvent, TokenLogprobs
from engine.stats import EngineStats
from engine.thinking import ThinkingGate
from engine.tier_stats import Histogram, Holding, TierStats
from engine.tokenizer import Content, Markup
from server.live_router import LiveRouter
from server.services import Services, TokenizerDoor

FINGERPRINT = "sha256:" + "0" * 64
OTHER_FINGERPRINT = "sha256:" + "f" * 64

Rule = Callable[[str, tuple[str, ...]], str]


def echo(prompt: str, experts: tuple[str, ...]) -> str:
    """The default rule: the experts' names and the prompt, so that a test sees who answered what."""
    return f"{'+'.join(experts) or 'base'}: {prompt}"


class ByteTokenizer:
    """A token is a byte of UTF-8. A conversation is its contents, one per line."""

    max_token_bytes = 1
    can_think = True

    def encode_chat(self, messages: Sequence[tuple[str, Content]], thinking: bool = False) -> tuple[int, ...]:
        return tuple(("\n".join(_plain(content) for _, content in messages) + "<" * thinking).encode())

    def thinking(self, prompt_ids: Sequence[int], is_wanted: bool, budget: int) -> Thinking | None:
        """Angle brackets open and close it; the template opens it where it is wanted."""
        if not is_wanted:
            return None
        if not self.can_think:
            raise ThinkingUnsupported("this base can not think")
        return Thinking(ord("<"), ord(">"), (), (), budget, is_open=prompt_ids[-1] == ord("<"))

    def __len__(self) -> int:
        return 256

    def encode_text(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token_ids).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id])

    def decoder(self) -> "ByteDecoder":
        return ByteDecoder()


def _plain(content: Content) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text if isinstance(part, Markup) else part for part in content)


class ByteDecoder:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        return self._decoder.decode(bytes([token_id]))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class FakeMatcher:
    """Allows everything and remembers that it was closed."""

    def __init__(self, gbnf: str) -> None:
        self.gbnf = gbnf
        self.is_closed = False
        self.is_complete = True
        self.must_stop = False

    def allows(self, token_id: int) -> bool:
        return token_id >= 0

    def allows_each(self, token_ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        return token_ids >= 0

    def hot_mask(self) -> NDArray[np.bool_] | None:
        return None

    def mask(self) -> NDArray[np.bool_]:
        return np.ones(256, np.bool_)

    def forced_tokens(self) -> Sequence[int]:
        return ()

    def accept(self, token_id: int) -> None:
        assert self.allows(token_id)

    def close(self) -> None:
        self.is_closed = True


class FakeGrammar:
    def __init__(self, gbnf: str) -> None:
        self.gbnf = gbnf

    def matcher(self) -> FakeMatcher:
        return FakeMatcher(self.gbnf)


class FakeCompiler:
    """Compiles any text and remembers which, and whether it was told to try it first."""

    def __init__(self) -> None:
        self.compiled: list[str] = []
        self.tried: list[tuple[str, str]] = []
        self.fault: Exception | None = None
        self.is_closed = False
        self.searched: list[bool] = []

    def compile(self, gbnf: str) -> FakeGrammar:
        self.compiled.append(gbnf)
        return FakeGrammar(gbnf)

    def compile_untrusted(self, gbnf: str, root: str, max_bytes: int, is_searched: bool = True) -> FakeGrammar:
        assert len(gbnf) <= max_bytes
        self.tried.append((gbnf, root))
        self.searched.append(is_searched)
        if self.fault is not None:
            raise self.fault
        return self.compile(gbnf)

    def close(self) -> None:
        self.is_closed = True


class FakeGeneration:
    """Gives the answer's tokens one by one; waits before each for as long as the engine is held."""

    def __init__(self, engine: "FakeEngine", request: GenerationRequest, token_ids: bytes) -> None:
        self._engine = engine
        self._request = request
        self._gate = ThinkingGate(request.thinking, None) if request.thinking else None
        self._token_ids = token_ids[: request.sampling.max_tokens]
        self._reason = FinishReason.STOP if len(token_ids) == len(self._token_ids) else FinishReason.LENGTH
        self._cancelled = asyncio.Event()
        self.num_prompt_tokens, self.num_cached_tokens = len(request.prompt_ids), 0
        self.is_cancelled = False
        self.num_given = 0
        self.error: Exception | None = None

    def timings(self) -> Timings:
        return self._engine.timings_of(self._request)

    def cancel(self) -> None:
        self.is_cancelled = True
        self._cancelled.set()

    async def batches(self) -> AsyncIterator[list[TokenEvent]]:
        self._engine.num_running += 1
        events: list[TokenEvent] = []
        try:
            for token_id in self._token_ids:
                await self._step()
                if self._cancelled.is_set():
                    break
                self.num_given += 1
                for taken, part in (
                    self._gate.take(token_id, False, None) if self._gate else ((token_id, TextPart.ANSWER),)
                ):
                    events.append(TokenEvent(taken, self._scores(taken), part=part))
                if len(events) >= self._engine.num_at_once:
                    yield events
                    events = []
            reason = FinishReason.CANCELLED if self._cancelled.is_set() else self._reason
            yield [*events, TokenEvent(finish=reason, timings=self._engine.timings_of(self._request))]
        finally:
            self._engine.num_running -= 1

    def _scores(self, token_id: int) -> TokenLogprobs | None:
        """As if each token were half certain, and the ones after it a little less each."""
        count = self._request.sampling.logprobs
        if count is None:
            return None
        return TokenLogprobs(-0.5, tuple(((token_id + n) % 256, -0.5 - n) for n in range(count)))

    async def _step(self) -> None:
        """Until the engine lets the next token go, or this request is cancelled."""
        if error := self.error or self._engine.error:
            raise error
        await asyncio.sleep(0)
        waits = {asyncio.ensure_future(event.wait()) for event in (self._engine.flowing, self._cancelled)}
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in pending:
            wait.cancel()
        if error := self.error or self._engine.error:
            raise error


LOWERED_BYTES = 70
"""Of any expert, as the fake engine lowers it."""


class FakeEngine:
    """Answers by a rule over the prompt's text and the experts' names."""

    def __init__(self, rule: Rule = echo, max_queue: int = 8, max_prompt: int = 4096) -> None:
        self.fingerprint = FINGERPRINT
        self.device = "cpu"
        self.quantization = "fp32"
        self.max_queue = max_queue
        self.max_prompt = max_prompt
        self.max_context = 1 << 20
        self.max_submitted: int | None = None
        self.num_at_once = 1
        """Tokens that come together."""
        self.rule = rule
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.requests: list[GenerationRequest] = []
        self.generations: list[FakeGeneration] = []
        self.resident: list[str] = []
        self.wishes: list[str] = []
        self.warmed: list[str] = []
        self.held: dict[str, Holding] = {}
        self.num_running = 0
        self.num_queued = 0
        self.num_restarts = 0
        self.num_warm_ups = 0
        self.error: Exception | None = None
        self._is_running = False

    @property
    def is_healthy(self) -> bool:
        return self._is_running and self.error is None

    def start(self, on_crash: Callable[[], None] = lambda: None) -> None:
        self._is_running = True
        self._on_crash = on_crash

    def restart(self) -> None:
        self.num_restarts += 1
        self.error = None

    async def warm_up(self) -> None:
        self.num_warm_ups += 1
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        self._is_running = False

    def die(self) -> None:
        """What a crash of the engine's thread looks like from outside."""
        self.error = EngineStopped("the engine's thread has died")
        for generation in self.generations:
            generation.error = self.error
        self.flowing.set()

    def crash(self) -> None:
        """`die`, and the word to whoever would start it again."""
        self.die()
        self._on_crash()

    def check_capacity(self) -> None:
        if self.num_queued >= self.max_queue:
            raise EngineOverloaded(self.num_queued, self.max_queue)

    async def submit(self, request: GenerationRequest) -> FakeGeneration:
        if not self._is_running:
            raise EngineStopped("the engine is stopped")
        if len(self.requests) == self.max_submitted:
            raise EngineOverloaded(len(self.requests), self.max_submitted)
        if len(request.prompt_ids) > self.max_prompt:
            raise PromptTooLong(len(request.prompt_ids), self.max_prompt)
        names = tuple(use.adapter.manifest.name for use in request.experts)
        prompt = bytes(request.prompt_ids).decode() if max(request.prompt_ids) < 256 else ""
        answer = self.rule(prompt, names).encode()
        generation = FakeGeneration(self, request, answer)
        self.requests.append(request)
        self.generations.append(generation)
        return generation

    def timings_of(self, request: GenerationRequest) -> Timings:
        """A swap takes 2 ms where an expert was not resident."""
        names = [use.adapter.manifest.name for use in request.experts]
        swap_ms = 2.0 * sum(name not in self.resident for name in names)
        self.resident += [name for name in names if name not in self.resident]
        return Timings(queue_ms=0.5, swap_ms=swap_ms, first_token_ms=3.0, total_ms=7.0)

    async def warm(self, adapter: HostAdapter) -> None:
        self.warmed.append(adapter.manifest.name)
        self.held[adapter.generation] = Holding(adapter.generation, adapter.manifest.name, LOWERED_BYTES)

    def wish(self, adapter: HostAdapter) -> None:
        self.wishes.append(adapter.manifest.name)

    def stats(self) -> EngineStats:
        swaps = Histogram().plus(0.002)
        return EngineStats(
            running=self.num_running,
            queued=self.num_queued,
            steps=sum(generation.num_given for generation in self.generations),
            prompt_tokens=sum(generation.num_prompt_tokens for generation in self.generations),
            generated_tokens=sum(generation.num_given for generation in self.generations),
            swaps=len(self.resident),
            slots_used=len(self.resident),
            num_slots=4,
            memory_bytes={"base": 1000, "slots": 200, "kv": 300},
            kv_blocks_used=0,
            kv_blocks_total=64,
            resident=tuple(self.resident),
            tiers={"device": TierStats(3, 2, 1, 2, 200), "host": TierStats(), "disk": TierStats()},
            swap_seconds={("lora", "host"): swaps},
            stage_seconds={"read": swaps, "verify": swaps, "lower": swaps, "copy": swaps},
            holdings={"host": tuple(self.held.values())},
        )


def write_expert(
    root: Path,
    name: str,
    *,
    cues: tuple[str, ...] = (),
    examples: tuple[str, ...] = (),
    decoding: DecodingDefaults | None = None,
    grammar: str | None = None,
    grammar_text: str | None = None,
    base: str = FINGERPRINT,
) -> Manifest:
    """A package whose tensors mean nothing. `grammar` is a library name, `grammar_text` a file of its own."""
    reference = None
    if grammar is not None:
        reference = GrammarRef(library=grammar)
    files = {
        "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 2}).encode(),
        "adapter_model.safetensors": save(
            {"layer.lora_A.weight": torch.ones(2, 2), "layer.lora_B.weight": torch.ones(2, 2)}
        ),
    }
    if grammar_text is not None:
        reference = GrammarRef(file="grammar.gbnf")
        files["grammar.gbnf"] = grammar_text.encode()
    manifest = Manifest(
        name=name,
        version="1.2.3",
        description=f"Does {name}.",
        base=base,
        adapter=AdapterSpec(kind="lora", rank=2, targets=("q_proj",)),
        routing=RoutingHints(cues=cues, examples=examples),
        decoding=decoding or DecodingDefaults(),
        grammar=reference,
        tags=("test",),
        license="Apache-2.0",
    )
    return write_package(root / name, manifest, files)


def make_services(root: Path, engine: FakeEngine | None = None, tokenizer: TokenizerDoor | None = None) -> Services:
    """A server's rooms over the experts in `root`: the store and the router are the real ones."""
    root.mkdir(exist_ok=True)
    store = AdapterStore(root, 1 << 20)
    engine = engine or FakeEngine()
    router = LiveRouter(store, engine.fingerprint)
    return Services("tiny", engine, tokenizer or ByteTokenizer(), store, router, FakeCompiler())
