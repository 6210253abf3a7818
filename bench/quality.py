"""What each expert is worth: `python -m bench.quality [--count 200] [--quantization int8,fp32]`.

Question: on prompts of words and phrases that no training text has shown, how often is the answer exactly right -
from the base alone, from each expert, and from the task's own expert held to its grammar? Greedy, through the engine,
all rows in one continuous batch. `content` is the share of prompts that the base answers rightly in its own loose form.
"""

import argparse
import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir

import sqlglot
from rich.console import Console
from rich.table import Table
from sqlglot.errors import SqlglotError

from adapters_store.package import HostAdapter, read_package
from engine.config import EngineConfig
from engine.request import ExpertUse, GenerationRequest, SamplingParams
from engine.service import Engine
from engine.tokenizer import Tokenizer
from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import vocabulary_for
from training.measure import unseen
from training.tasks import TASKS, Example
from training.tasks.triage import LABELS

SEED = 2026
MAX_TOKENS = 160


@dataclass(frozen=True, slots=True)
class Bench:
    """A running engine and what it takes to ask it in text."""

    engine: Engine
    tokenizer: Tokenizer
    compiler: GrammarCompiler
    experts: dict[str, HostAdapter]

    def grammar_of(self, name: str) -> CompiledGrammar | None:
        """The grammar that an expert's manifest names."""
        adapter = self.experts[name]
        reference = adapter.manifest.grammar
        text = library.text(reference.library) if reference and reference.library else adapter.grammar
        return self.compiler.compile(text) if text else None

    async def answer(self, prompt: str, expert: str | None, grammar: CompiledGrammar | None = None) -> str:
        request = GenerationRequest(
            id="bench",
            prompt_ids=self.tokenizer.encode_chat([("user", prompt)]),
            experts=(ExpertUse(self.experts[expert], 1.0),) if expert else (),
            sampling=SamplingParams(max_tokens=MAX_TOKENS),
            matcher=grammar.matcher() if grammar else None,
        )
        decoder = self.tokenizer.decoder()
        text = ""
        async for event in await self.engine.submit(request):
            text += decoder.push(event.token_id) if event.token_id is not None else ""
        return text + decoder.flush()

    async def answers(
        self, examples: Sequence[Example], expert: str | None, grammar: CompiledGrammar | None = None
    ) -> list[str]:
        return list(await asyncio.gather(*(self.answer(example.prompt, expert, grammar) for example in examples)))


@dataclass(frozen=True, slots=True)
class Row:
    """Shares in 0..1 for one task."""

    task: str
    content: float
    base: float
    experts: dict[str, float]
    with_grammar: float
    valid: float
    valid_with_grammar: float


def open_bench(base: Path, experts: Path, quantization: str, count: int) -> Bench:
    tokenizer = Tokenizer.load(base)
    config = EngineConfig(base=base, quantization=quantization, num_tokens=len(tokenizer), max_queue=count + 1)
    engine = Engine.load(config)
    vocabulary = vocabulary_for(
        tokenizer.hf,
        engine.num_logits,
        tuple(sorted(tokenizer.eos_ids)),
        Path(gettempdir()) / "hotseat-bench",
    )
    packages = {path.name: read_package(path) for path in sorted(experts.iterdir()) if path.is_dir()}
    engine.start()
    return Bench(engine, tokenizer, GrammarCompiler(vocabulary), packages)


async def measure(bench: Bench, task: str, count: int) -> Row:
    examples = unseen(bench.tokenizer.hf, TASKS[task], count, SEED)
    base = await bench.answers(examples, None)
    by_expert = {name: await bench.answers(examples, name) for name in bench.experts}
    held = await bench.answers(examples, task, bench.grammar_of(task))
    is_valid = VALIDATORS[task]
    return Row(
        task=task,
        content=share([answer in example.loose for answer, example in zip(base, examples, strict=True)]),
        base=exact(base, examples),
        experts={name: exact(answers, examples) for name, answers in by_expert.items()},
        with_grammar=exact(held, examples),
        valid=share([is_valid(answer) for answer in by_expert[task]]),
        valid_with_grammar=share([is_valid(answer) for answer in held]),
    )


def exact(answers: Sequence[str], examples: Sequence[Example]) -> float:
    return share([answer == example.answer for answer, example in zip(answers, examples, strict=True)])


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def is_sql(text: str) -> bool:
    try:
        return len(sqlglot.parse(text, dialect="sqlite")) == 1
    except SqlglotError:
        return False


VALIDATORS: dict[str, Callable[[str], bool]] = {
    "json-extract": is_json,
    "sql": is_sql,
    "ticket-triage": LABELS.__contains__,
}


def render(rows: Sequence[Row], quantization: str, count: int) -> Table:
    table = Table(title=f"exact match in %, {count} unseen prompts each, greedy, {quantization}")
    for heading in ("task", "content", "base", *rows[0].experts, "own + grammar", "valid", "valid + grammar"):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for row in rows:
        figures = [
            row.content,
            row.base,
            *row.experts.values(),
            row.with_grammar,
            row.valid,
            row.valid_with_grammar,
        ]
        table.add_row(row.task, *(f"{100 * figure:.1f}" for figure in figures))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("models/nano"))
    parser.add_argument("--experts", type=Path, default=Path("adapters_store/experts"))
    parser.add_argument("--count", type=int, default=200, help="prompts per task")
    parser.add_argument("--quantization", default="int8,fp32", help="comma-separated")
    args = parser.parse_args()
    console = Console(width=140)
    for quantization in args.quantization.split(","):
        bench = open_bench(args.base, args.experts, quantization, args.count)
        rows = [asyncio.run(measure(bench, task, args.count)) for task in bench.experts]
        bench.engine.stop()
        console.print(render(rows, quantization, args.count))


if __name__ == "__main__":
    main()
