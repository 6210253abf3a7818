"""What does jumping over forced tokens win? `python -m bench.jump [models/nano] [--runs N]`

Answers under the grammar of a JSON schema with ten required fields, greedy and drawn, one stream and ten, with jumping
and without in turn: forward passes (steps of the engine), seconds, and how many of the texts are the same. The base was
not trained to write such objects. The expert json-extract was: the last row is its answers to prompts of its own, each
under a schema of the fields that the prompt asks for. Then the share of tokens that need a pass in one document of the
ten fields, replayed without a model, which is what a model gets that spells as its tokenizer does.
"""

import argparse
import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from adapters_store.package import read_package
from bench.grammar_load import open_vocabulary
from bench.report import processor
from engine.config import EngineConfig
from engine.request import ExpertUse, GenerationRequest, SamplingParams
from engine.service import Engine
from engine.tokenizer import Tokenizer
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.json_schema import to_gbnf
from training.measure import unseen
from training.tasks import TASKS

NANO: Final = Path("models/nano")
EXPERT: Final = Path("adapters_store/experts/json-extract")
KINDS: Final = {str: "string", int: "integer"}
_TEXT: Final = {"type": "string", "pattern": "^[A-Za-z][A-Za-z ]{2,18}$"}
FIELDS: Final[dict[str, object]] = {
    "name": _TEXT,
    "age": {"type": "integer", "minimum": 0, "maximum": 120},
    "city": _TEXT,
    "country": _TEXT,
    "active": {"type": "boolean"},
    "role": {"enum": ["admin", "editor", "reader"]},
    "score": {"type": "integer", "minimum": 0, "maximum": 100},
    "joined": {"type": "string", "format": "date"},
    "company": _TEXT,
    "language": {"enum": ["English", "Portuguese", "German"]},
}
SCHEMA: Final = {
    "type": "object",
    "properties": FIELDS,
    "required": list(FIELDS),
    "additionalProperties": False,
}
DOCUMENT: Final = {
    "name": "Maria Santos",
    "age": 31,
    "city": "Porto",
    "country": "Portugal",
    "active": True,
    "role": "editor",
    "score": 87,
    "joined": "2024-05-17",
    "company": "Casa da Ribeira",
    "language": "Portuguese",
}
MODES: Final = {
    "greedy": SamplingParams(max_tokens=400),
    "temperature 1": SamplingParams(max_tokens=400, temperature=1.0, seed=7),
}


Job = tuple[tuple[int, ...], tuple[ExpertUse, ...], CompiledGrammar]
"""Prompt, experts, grammar."""


@dataclass(frozen=True, slots=True)
class Run:
    """One batch of streams."""

    passes: int
    seconds: float
    answers: tuple[tuple[int, ...], ...]


async def run(engine: Engine, jobs: list[Job], params: SamplingParams) -> Run:
    async def answer(job: Job) -> tuple[int, ...]:
        prompt, experts, grammar = job
        generation = await engine.submit(GenerationRequest("bench", prompt, experts, params, grammar.matcher()))
        return tuple([event.token_id async for event in generation if event.token_id is not None])

    before, started = engine.stats().steps, perf_counter()
    answers = await asyncio.gather(*map(answer, jobs))
    seconds = perf_counter() - started
    return Run(engine.stats().steps - before, seconds, tuple(answers))


async def measure(
    engines: dict[str, Engine], compiler: GrammarCompiler, tokenizer: PreTrainedTokenizerBase, runs: int
) -> list[dict[str, object]]:
    grammar = compiler.compile(to_gbnf(SCHEMA))
    own = extractions(compiler, tokenizer, runs + 1)
    cases: dict[str, tuple[SamplingParams, list[list[Job]]]] = {}
    for mode, params in MODES.items():
        for streams in (1, 10):
            texts = [[f"Who is person {run * streams + i}?" for i in range(streams)] for run in range(runs + 1)]
            jobs: list[list[Job]] = [[(prompt_of(tokenizer, text), (), grammar) for text in batch] for batch in texts]
            cases[f"ten fields, {mode}, {streams} at once"] = params, jobs
    cases["json-extract, greedy, 1 at once"] = MODES["greedy"], [[job] for job in own]
    rows = []
    for name, (params, batches) in cases.items():
        found: dict[str, list[Run]] = {kind: [] for kind in engines}
        for batch in batches:
            for kind, engine in engines.items():
                found[kind].append(await run(engine, batch, params))
        rows.append({"case": name, **figures(tokenizer, found["jumping"][1:], found["single"][1:])})
    return rows


def extractions(compiler: GrammarCompiler, tokenizer: PreTrainedTokenizerBase, count: int) -> list[Job]:
    """Unseen prompts of json-extract, under schemas of the fields that they ask for."""
    expert = (ExpertUse(read_package(EXPERT), 1.0),)
    jobs: list[Job] = []
    for example in unseen(tokenizer, TASKS["json-extract"], count, seed=11):
        fields = {name: {"type": KINDS[type(value)]} for name, value in json.loads(example.answer).items()}
        schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
        jobs.append((prompt_of(tokenizer, example.prompt), expert, compiler.compile(to_gbnf(schema))))
    return jobs


def prompt_of(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    return Tokenizer(tokenizer, frozenset()).encode_chat([("user", text)])


def figures(tokenizer: PreTrainedTokenizerBase, jumping: list[Run], single: list[Run]) -> dict[str, object]:
    """Medians of the pairs; all texts compared."""
    texts = [
        tuple(tokenizer.decode(list(answer)) for answer in (one, other))
        for pair in zip(jumping, single, strict=True)
        for one, other in zip(pair[0].answers, pair[1].answers, strict=True)
    ]
    return {
        "passes": median(run.passes for run in single),
        "passes_jumping": median(run.passes for run in jumping),
        "ms": median(run.seconds for run in single) * 1e3,
        "ms_jumping": median(run.seconds for run in jumping) * 1e3,
        "share_of_passes": median(a.passes / b.passes for a, b in zip(jumping, single, strict=True)),
        "share_of_seconds": median(a.seconds / b.seconds for a, b in zip(jumping, single, strict=True)),
        "same_texts": sum(one == other for one, other in texts) / len(texts),
    }


def replay(grammar: CompiledGrammar, tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Tokens of the document, and those of them that are drawn."""
    ids = tokenizer.encode(json.dumps(DOCUMENT), add_special_tokens=False)
    matcher = grammar.matcher()
    num_drawn = place = 0
    while place < len(ids):
        matcher.accept(ids[place])
        num_drawn += 1
        forced = matcher.forced_tokens()
        for token in forced:
            matcher.accept(token)
        place += 1 + len(forced)
    matcher.close()
    return len(ids), num_drawn


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path, nargs="?", default=NANO)
    parser.add_argument("--runs", type=int, default=9, help="after one that warms up; medians are shown")
    args = parser.parse_args(arguments)
    tokenizer = AutoTokenizer.from_pretrained(args.base, local_files_only=True)
    vocabulary = open_vocabulary(args.base)
    compiler = GrammarCompiler(vocabulary)
    config = EngineConfig(base=args.base, num_tokens=len(tokenizer), max_context=640, prefix_cache=False)
    engines = {name: Engine.load(replace(config, jump_ahead=name == "jumping")) for name in ("jumping", "single")}
    for engine in engines.values():
        engine.start()
    try:
        rows = asyncio.run(measure(engines, compiler, tokenizer, args.runs))
        num_tokens, num_drawn = replay(compiler.compile(to_gbnf(SCHEMA)), tokenizer)
    finally:
        for engine in engines.values():
            engine.stop()
        vocabulary.close()
    print(f"a document of the schema: {num_tokens} tokens, {num_drawn} drawn: {num_drawn / num_tokens:.2f}\n")
    for row in rows:
        print(
            ", ".join(
                f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    settings = {"base": args.base.name, "runs": args.runs, "processor": processor()}
    print(json.dumps({"bench": "jump", "settings": settings, "replay": [num_tokens, num_drawn], "rows": rows}))


if __name__ == "__main__":
    main()
