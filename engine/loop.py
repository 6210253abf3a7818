"""The thread that owns the device: drain the inbox, step, publish. A crash fails every request and stays visible."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from torch import Tensor

from engine.errors import EngineError, EngineStopped
from engine.held_deltas import Fetched
from engine.plan import StepPlan, Upload
from engine.request import TokenEvent, TokenLogprobs
from engine.runner import Runner
from engine.sampler import describe, sample_batch
from engine.scheduler import Scheduler
from engine.sequence import Sequence
from engine.stats import EngineStats
from engine.tier_stats import Holding, Source, SwapTimes, TierStats

log = logging.getLogger(__name__)

Publish = Callable[[list[TokenEvent] | Exception], None]


@dataclass(frozen=True, slots=True)
class Submit:
    sequence: Sequence
    experts: tuple[Fetched, ...]
    publish: Publish
    """Called from the engine thread with each step's events, or with the error that ended the request."""
    fetch_seconds: tuple[float, ...] = ()
    """What came before each of `experts`, for the time of a swap."""
    announce: Callable[[], None] = lambda: None
    """Called once for all requests that have the same one, when a step has published what it has."""


@dataclass(frozen=True, slots=True)
class Cancel:
    sequence_id: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Free the slot of an adapter, once nobody uses it."""

    generation: str


@dataclass(frozen=True, slots=True)
class Stop:
    pass


class EngineLoop:
    """Everything below runs on one thread, except `send`, `snapshot` and the read-only properties."""

    def __init__(self, scheduler: Scheduler, runner: Runner, times: SwapTimes) -> None:
        self.scheduler, self.runner, self.times = scheduler, runner, times
        self.stats = EngineStats()
        self._copying: dict[Upload, tuple[str, Source, float]] = {}
        self.failure: Exception | None = None
        self._inbox: queue.SimpleQueue[Submit | Cancel | Unload | Stop] = queue.SimpleQueue()
        self._live: dict[int, Submit] = {}
        self._unannounced: set[Callable[[], None]] = set()
        self._num_sent = self._num_taken = 0
        self._stopping = False
        self._closing = threading.Lock()
        self.on_crash: Callable[[], None] = lambda: None
        """Called from the thread, last, where it dies of an error; set before it starts."""
        self._masking = ThreadPoolExecutor(thread_name_prefix="grammar")
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what runs or waits fails with EngineStopped."""
        self._inbox.put(Stop())
        if self._thread.is_alive():
            self._thread.join()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive() and not self._stopping and self.failure is None

    @property
    def num_queued(self) -> int:
        """Requests that wait; those that are still in the inbox too."""
        return len(self.scheduler.waiting) + self._num_sent - self._num_taken

    def send(self, message: Submit | Cancel | Unload) -> None:
        """Raises EngineStopped where no thread will ever read the message."""
        with self._closing:
            if not self.is_running:
                raise EngineStopped(f"the engine is not running: {self.failure or 'stopped'}")
            self._num_sent += isinstance(message, Submit)
            self._inbox.put(message)

    def snapshot(self) -> EngineStats:
        stats, scheduler = self.stats, self.scheduler
        held = tuple(self.runner.held.copy().values())
        return EngineStats(
            steps=stats.steps,
            prompt_tokens=stats.prompt_tokens,
            prefix_hits_tokens=scheduler.prefix_hits_tokens,
            generated_tokens=stats.generated_tokens + scheduler.num_forced_tokens,
            forced_tokens=scheduler.num_forced_tokens,
            preemptions=scheduler.num_preemptions,
            swaps=stats.swaps,
            running=len(scheduler.running),
            queued=self.num_queued,
            num_slots=scheduler.slots.num_slots,
            slots_used=len(scheduler.slots.resident),
            resident=tuple(sorted(holding.name for holding in held)),
            kv_blocks_used=scheduler.blocks.num_blocks - scheduler.blocks.num_free,
            kv_blocks_total=scheduler.blocks.num_blocks,
            memory_bytes=self.runner.model.memory_bytes(),
            tiers={"device": self._device_tier(held)},
            holdings={"device": held},
            swap_seconds=self.times.swaps(),
            stage_seconds=self.times.stages(),
        )

    def step(self) -> None:
        """One turn of the machine: who is late ends, everybody else gets on."""
        for sequence_id, late in self.scheduler.expire(time.monotonic()).items():
            self._publish(sequence_id, late)
        self._clear_slots()
        if self.scheduler.has_work:
            self._compute()
        self._announce()

    def _compute(self) -> None:
        plan = self.scheduler.plan()
        self._upload(plan)
        logits = self.runner.forward(plan)
        tokens, logprobs, faults = self._draw(plan, logits)
        self._count(plan, len(tokens))
        self._time_swaps()
        for sequence_id, events in self.scheduler.commit(plan, tokens, logprobs).items():
            self._publish(sequence_id, events)
        for sequence_id, fault in faults.items():
            self.scheduler.drop(self._live[sequence_id].sequence)
            self._publish(sequence_id, fault)

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._drain()
                if self.scheduler.has_work and not self._stopping:
                    self.step()
            self._close(EngineStopped("the engine was stopped"))
        except Exception as failure:
            log.exception("the engine thread died")
            self.failure = failure
            self._close(EngineStopped(f"the engine thread died: {type(failure).__name__}: {failure}"))
            self.on_crash()

    def _drain(self) -> None:
        """Take what has arrived; wait for something when there is nothing to do."""
        while not self._inbox.empty() or not (self.scheduler.has_work or self._stopping):
            self._announce()
            self._clear_slots()  # what the last step ended may have been the last to use one; the wait has no end
            match self._inbox.get():
                case Submit() as submit:
                    self._live[submit.sequence.id] = submit
                    self.scheduler.add(submit.sequence)
                    self._num_taken += 1
                case Cancel(sequence_id):
                    if events := self.scheduler.cancel(sequence_id):
                        self._publish(sequence_id, events)
                case Unload(generation):
                    self.scheduler.slots.retire(generation)
                case Stop():
                    self._stopping = True

    def _upload(self, plan: StepPlan) -> None:
        for upload in plan.uploads:
            submit = self._live[upload.sequence_id]
            place, fetched = next(
                (place, fetched)
                for place, fetched in enumerate(submit.experts)
                if fetched.delta.generation == upload.generation
            )
            self.runner.upload(upload, fetched.delta)
            self.stats.swaps += 1
            before = fetched.seconds + (submit.fetch_seconds[place] if submit.fetch_seconds else 0.0)
            is_first = not submit.sequence.num_preemptions
            self._copying[upload] = (fetched.delta.kind, *((fetched.source, before) if is_first else ("host", 0.0)))

    def _time_swaps(self) -> None:
        for upload, seconds in self.runner.uploader.finished():
            kind, source, before = self._copying.pop(upload)
            self.times.count_stage("copy", seconds)
            self.times.count_swap(kind, source, before + seconds)
            if submit := self._live.get(upload.sequence_id):
                submit.sequence.swap_seconds += seconds

    def _clear_slots(self) -> None:
        for slot in self.scheduler.slots.take_freed():
            self.runner.clear(slot)

    def _device_tier(self, held: tuple[Holding, ...]) -> TierStats:
        slots, num_bytes = self.scheduler.slots, sum(holding.num_bytes for holding in held)
        return TierStats(slots.hits, slots.misses, slots.evictions, len(held), num_bytes)

    def _draw(
        self, plan: StepPlan, logits: Tensor
    ) -> tuple[dict[int, int], dict[int, TokenLogprobs], dict[int, EngineError]]:
        """sequence id -> token, its log-probabilities where asked for, and what ended rows that cannot go on alone."""
        sequences = [self._live[row.sequence_id].sequence for row in plan.rows if row.samples]
        wanted = {s.id: logits[row].clone() for row, s in enumerate(sequences) if s.sampling.logprobs is not None}
        tokens: dict[int, int] = {}
        logprobs: dict[int, TokenLogprobs] = {}
        faults: dict[int, EngineError] = {}
        drawn_all = sample_batch(logits, sequences, self.scheduler.eos_ids, self._masking)
        for sequence, drawn in zip(sequences, drawn_all, strict=True):
            if isinstance(drawn, EngineError):
                faults[sequence.id] = drawn
                continue
            tokens[sequence.id] = drawn
            if sequence.sampling.logprobs is not None:
                logprobs[sequence.id] = describe(wanted[sequence.id], drawn, sequence.sampling.logprobs)
        return tokens, logprobs, faults

    def _count(self, plan: StepPlan, num_drawn: int) -> None:
        self.stats.steps += 1
        self.stats.generated_tokens += num_drawn
        for row in plan.rows:
            num_left = self._live[row.sequence_id].sequence.num_prompt - row.start
            self.stats.prompt_tokens += max(0, min(num_left, len(row.token_ids)))

    def _publish(self, sequence_id: int, news: list[TokenEvent] | Exception) -> None:
        submit = self._live[sequence_id]
        if isinstance(news, Exception) or submit.sequence.finish:
            del self._live[sequence_id]
        submit.publish(news)
        self._unannounced.add(submit.announce)

    def _announce(self) -> None:
        for announce in self._unannounced:
            announce()
        self._unannounced.clear()

    def _close(self, reason: EngineStopped) -> None:
        """Nobody may wait for ever: fail what runs, what waits and what is still in the inbox."""
        with self._closing:
            self._stopping = True
        pending = list(self._live.values())
        while not self._inbox.empty():
            message = self._inbox.get()
            pending += [message] if isinstance(message, Submit) else []
        for submit in pending:
            if submit.sequence.matcher:
                submit.sequence.matcher.close()
            submit.publish(reason)
            self._unannounced.add(submit.announce)
        self._announce()
        self._live.clear()
        self._masking.shutdown()
