"""Loads and their arithmetic, the same for our engine and for its peers.

Owns what is asked (`Job`), what a client saw (`Trace`), who asks when (`closed_loop`) and what follows from it. Knows
neither the engine nor a peer: it is given a function that asks. Prompts are random ids, new ones in every run, so that
nobody answers from a cache.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

WARM_UP_TOKENS = 4


@dataclass(frozen=True, slots=True)
class Job:
    prompt_ids: tuple[int, ...]
    max_tokens: int
    expert: str | None = None
    """`SET/NAME` below the base's `experts`; None asks the base alone."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One request as its client saw it, in seconds of one clock."""

    submitted: float
    token_times: tuple[float, ...]
    """When each generated token came. A peer that answers in one piece has them all at the end."""


Ask = Callable[[Job], Awaitable[Trace]]
Clients = tuple[tuple[Job, ...], ...]
"""What each client asks, one job after the other."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line of a table: a load, as often as it is measured, and once shortened to warm up."""

    name: str
    warm_up: Clients
    runs: tuple[Clients, ...]


class Prompts:
    """Random ids; two prompts of one object never agree by plan."""

    def __init__(self, vocab_size: int, seed: int = 0) -> None:
        self.random, self.vocab_size = random.Random(seed), vocab_size

    def draw(self, length: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(self.vocab_size) for _ in range(length))

    def length(self, lowest: int, highest: int) -> int:
        return self.random.randint(lowest, highest)


def even_case(
    name: str, prompts: Prompts, experts: Sequence[str | None], lengths: tuple[int, int], runs: int, rounds: int = 1
) -> Case:
    """One client per entry of `experts`, each asking `rounds` times with the same (prompt, output) lengths."""
    prompt, output = lengths

    def clients(tokens: int, times: int) -> Clients:
        return tuple(tuple(Job(prompts.draw(prompt), tokens, expert) for _ in range(times)) for expert in experts)

    warm_up = clients(min(WARM_UP_TOKENS, output), 1)
    return Case(name, warm_up, tuple(clients(output, rounds) for _ in range(runs)))


async def closed_loop(ask: Ask, clients: Clients) -> list[Trace]:
    """Every client asks its next job as soon as the last one is answered; all begin at once."""

    async def work(jobs: Sequence[Job]) -> list[Trace]:
        return [await ask(job) for job in jobs]

    found = await asyncio.gather(*(work(jobs) for jobs in clients))
    return [trace for traces in found for trace in traces]


def throughput(traces: Sequence[Trace]) -> float:
    """Generated tokens per second from the first submission to the last token: prefill counts as time."""
    began = min(trace.submitted for trace in traces)
    ended = max(trace.token_times[-1] for trace in traces)
    return sum(len(trace.token_times) for trace in traces) / (ended - began)


def decode_rate(traces: Sequence[Trace]) -> float:
    """Tokens per second of all requests together while every one of them is decoding.

    Raises ValueError when they never are at the same time.
    """
    began = max(trace.token_times[0] for trace in traces)
    ended = min(trace.token_times[-1] for trace in traces)
    total = 0.0
    for trace in traces:
        shared = [time for time in trace.token_times if began <= time <= ended]
        if len(shared) < 2 or shared[0] == shared[-1]:
            raise ValueError(f"{len(traces)} requests decoded together for {len(shared)} tokens, at least 2 are needed")
        total += (len(shared) - 1) / (shared[-1] - shared[0])
    return total


def prefill_rate(traces: Sequence[Trace], prompt_tokens: int) -> float:
    """Prompt tokens per second up to the first generated one, of requests that ran one at a time."""
    waits = [trace.token_times[0] - trace.submitted for trace in traces]
    return prompt_tokens * len(waits) / sum(waits)
