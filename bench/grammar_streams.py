"""Ten streams at once on a base, each with a grammar or none: tokens per second, in turn."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from bench.grammar_load import open_vocabulary
from engine.config import EngineConfig
from engine.request import GenerationRequest, SamplingParams
from engine.service import Engine
from grammars.compiler import CompiledGrammar, GrammarCompiler

NUM_STREAMS: Final = 10
NUM_TOKENS: Final = 96
RUNS: Final = 9
PEOPLE: Final = r"""
root ::= "[" person (", " person){99} "]"
person ::= "{\"name\": " string ", \"age\": " [1-9] [0-9]? ", \"tags\": [" string (", " string){0,3} "]}"
string ::= "\"" [a-zA-Z ]{1,24} "\""
"""
"""Longer than any stream gets."""
MODES: Final = {
    "greedy": SamplingParams(max_tokens=NUM_TOKENS, ignore_eos=True),
    "top-p 0.9": SamplingParams(max_tokens=NUM_TOKENS, ignore_eos=True, temperature=1.0, top_p=0.9),
}


def measure(base: Path) -> dict[str, list[float]]:
    """Tokens per second of every run; the runs of all cases alternate."""
    vocabulary = open_vocabulary(base)
    compiled = GrammarCompiler(vocabulary).compile(PEOPLE)
    engine = Engine.load(EngineConfig(base=base, device="cpu", quantization="int8", max_context=256))
    engine.start()
    try:
        return asyncio.run(_measure(engine, compiled))
    finally:
        engine.stop()
        vocabulary.close()


def describe(streams: Mapping[str, list[float]]) -> str:
    lines = [f"{NUM_STREAMS} streams: {name}: {median(runs):.0f} tokens/s" for name, runs in streams.items()]
    for mode in MODES if streams else ():
        held, free = (median(streams[f"{mode}, {kind}"]) for kind in ("grammar", "free"))
        pairs = zip(streams[f"{mode}, grammar"], streams[f"{mode}, free"], strict=True)
        paired = median(one / other for one, other in pairs)
        lines.append(f"{mode}: {held / free:.3f} of the free streams' rate (median of pairs {paired:.3f})")
    return "\n".join(lines)


async def _measure(engine: Engine, compiled: CompiledGrammar) -> dict[str, list[float]]:
    streams: dict[str, list[float]] = {}
    for run in range(RUNS + 1):
        for mode, params in MODES.items():
            for kind, grammar in (("free", None), ("grammar", compiled)):
                rate = await _tokens_per_second(engine, params, grammar, run)
                if run:  # the first warms up
                    streams.setdefault(f"{mode}, {kind}", []).append(rate)
    return streams


async def _tokens_per_second(
    engine: Engine, params: SamplingParams, grammar: CompiledGrammar | None, run: int
) -> float:
    prompts = [tuple(100 + (run * 31 + stream * 7 + place) % 1000 for place in range(16)) for stream in range(10)]
    started = perf_counter()
    counts = await asyncio.gather(*(_count(engine, prompt, params, grammar) for prompt in prompts))
    return sum(counts) / (perf_counter() - started)


async def _count(
    engine: Engine, prompt: tuple[int, ...], params: SamplingParams, grammar: CompiledGrammar | None
) -> int:
    matcher = grammar.matcher() if grammar else None
    generation = await engine.submit(GenerationRequest("bench", prompt, (), params, matcher))
    count = 0
    async for event in generation:
        count += event.token_id is not None
    return count
