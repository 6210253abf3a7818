"""What does a grammar cost per token? `python -m bench.grammar [models/nano | FILE.gguf] [--no-streams]`

Replays valid documents on one thread. At each step the document's next token has probability 0.9, 0.5 or 0.1 and the
rest of the vocabulary a Zipf tail; whatever is drawn, the document's token is accepted. Ours is the time of drawing
under the grammar, accepting and asking for the end, less that of drawing one token of all without any truncation, which
is the least that sampling takes. The first replay begins with a grammar that was just compiled; masks that it makes are
there for the later ones, and are nearly all there in the hot ones. Peers, on the same grammar text: the mask, applied
to the logits, and the token accepted. All of this is the thread's own CPU time, so that other work on the machine is
not counted; only the first use of a schema is wall time. Then ten streams on the embedded base, with a grammar and
without in turn.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Final

import numpy as np
import torch
from torch import Tensor

from bench import grammar_first_use, grammar_streams
from bench.grammar_load import Document, ZipfLogits, documents, open_vocabulary, schema_document, tokens_of
from bench.grammar_peers import Refused, peers, step_seconds
from bench.report import NOT_RUN, processor
from engine.request import SamplingParams
from engine.sampler import sample_batch
from engine.sequence import Sequence
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.matcher import Matcher
from grammars.vocabulary import Vocabulary

QWEN: Final = Path("../shared/data/qwen-vocab/qwen3-vocab-patched.gguf")
NANO: Final = Path("models/nano")
SHARES: Final = (0.9, 0.5, 0.1)
MODES: Final = {"greedy": SamplingParams(), "top-p 0.9": SamplingParams(temperature=1.0, top_p=0.9)}
LATER: Final = range(1, 6)
HOT: Final = range(40, 46)
"""The numbers of those replays; the first is 0."""
NUM_COMPILED: Final = 40


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds per token."""

    document: str
    what: str
    p50: float
    p99: float
    note: str = ""

    @classmethod
    def of(cls, document: str, what: str, seconds: list[float], note: str = "") -> "Cost":
        p50, p99 = np.percentile(np.array(seconds) * 1e6, [50, 99]).tolist()
        return cls(document, what, p50, p99, note)


def our_costs(vocabulary: Vocabulary, document: Document) -> Iterator[Cost]:
    tokens = list(tokens_of(vocabulary, document.text))
    for mode, params in MODES.items():
        for share in SHARES:
            logits = ZipfLogits(vocabulary.num_logits, share)
            compiled = GrammarCompiler(vocabulary).compile(document.gbnf)
            replays = [_replay(compiled, tokens, logits, params, seed) for seed in range(HOT.stop)]
            what, free = f"ours, {mode}, p = {share}", median(plain for _, plain in replays)
            for name, some in (("first replay", range(1)), ("later", LATER), ("hot", HOT)):
                costs = [seconds for number in some for seconds in replays[number][0]]
                yield Cost.of(document.name, f"{what}, {name}", costs, f"a free draw: {free * 1e6:.0f}")


def _replay(
    compiled: CompiledGrammar, tokens: list[int], logits: ZipfLogits, params: SamplingParams, seed: int
) -> tuple[list[float], float]:
    """Seconds of each step beyond a free draw from the same logits, timed before it and after; and of a free draw."""
    matcher = compiled.matcher()
    free_params = SamplingParams(temperature=params.temperature, seed=seed)
    own_params = SamplingParams(temperature=params.temperature, top_p=params.top_p, seed=seed)
    output: list[int] = []
    held = Sequence(1, (0,), (), own_params, matcher, len(tokens) + 2, output_ids=output)
    free = Sequence(2, (0,), (), free_params, None, len(tokens) + 2, output_ids=output)
    beyond: list[float] = []
    plain: list[float] = []
    for token in tokens:
        row = logits.before(token)
        before = _seconds(partial(sample_batch, row, [free]))
        taken = _seconds(partial(_step, row, held, matcher, token))
        plain.append((before + _seconds(partial(sample_batch, row, [free]))) / 2)
        beyond.append(taken - plain[-1])
        output.append(token)
    matcher.close()
    return beyond, median(plain)


def _step(row: Tensor, held: Sequence, matcher: Matcher, token: int) -> None:
    """What the engine does with a row, but for which token it accepts."""
    sample_batch(row, [held])
    matcher.accept(token)
    if matcher.must_stop:
        held.matcher = None


def _seconds(call: Callable[[], object]) -> float:
    started = thread_time()
    call()
    return thread_time() - started


def peer_costs(vocabulary: Vocabulary, document: Document) -> Iterator[Cost]:
    tokens = list(tokens_of(vocabulary, document.text))
    installed, missing = peers(vocabulary)
    for peer in installed:
        logits = torch.zeros(1, vocabulary.num_logits)
        try:
            yield Cost.of(document.name, peer.name, step_seconds(peer, document.gbnf, tokens, logits))
        except Refused as fault:
            yield Cost(document.name, peer.name, 0, 0, f"{NOT_RUN}: {fault}")
    for name in missing:
        yield Cost(document.name, name, 0, 0, f"{NOT_RUN}: not installed")


def compile_cost(vocabulary: Vocabulary, document: Document) -> Cost:
    seconds = [_seconds(lambda: GrammarCompiler(vocabulary).compile(document.gbnf)) for _ in range(NUM_COMPILED)]
    return Cost.of(document.name, "compiling", seconds)


def markdown(costs: list[Cost]) -> str:
    lines = ["| document | | p50 µs | p99 µs | |", "|---|---|---|---|---|"]
    for cost in costs:
        figures = f"{cost.p50:,.0f} | {cost.p99:,.0f}" if cost.p99 else " | "
        lines.append(f"| {cost.document} | {cost.what} | {figures} | {cost.note} |")
    return "\n".join(lines)


def measure(source: Path, vocabulary: Vocabulary) -> list[Cost]:
    first_uses = grammar_first_use.measure(source, vocabulary)
    costs = [Cost("first use", what, p50, p99, "wall time") for what, (p50, p99) in first_uses.items()]
    costs += [compile_cost(vocabulary, document) for document in (*documents(), schema_document(10))]
    for document in documents():
        costs += our_costs(vocabulary, document)
        costs += peer_costs(vocabulary, document)
    return costs


def record(source: Path, costs: list[Cost], streams: Mapping[str, list[float]]) -> str:
    rows = [asdict(cost) for cost in costs]
    settings = {"vocabulary": source.name, "replays": HOT.stop, "processor": processor()}
    return json.dumps({"bench": "grammar", "unit": "µs", "settings": settings, "rows": rows, "streams": streams})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, nargs="?", default=QWEN if QWEN.exists() else NANO)
    parser.add_argument("--no-streams", action="store_true", help="leave the ten streams out")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    vocabulary = open_vocabulary(args.source)
    print(f"{args.source.name}: {vocabulary.num_logits} logits, {len(vocabulary.text_ids)} text tokens\n")
    costs = measure(args.source, vocabulary)
    vocabulary.close()
    streams = {} if args.no_streams else grammar_streams.measure(NANO)
    print(markdown(costs) + "\n")
    print(grammar_streams.describe(streams))
    print(record(args.source, costs, streams))


if __name__ == "__main__":
    main()
