"""What each expert is worth: `python -m bench.quality [--count 300] [--svg docs/quality.svg]`.

Question: on prompts of words and combinations that no training text has shown, how often is the answer exactly right -
from the base alone, from the task's own expert, from that expert held to its grammar, from every other expert?
Greedy, through the engine, many rows in one continuous batch. `content` is the share of prompts that the base answers
rightly in its own loose form, `rephrased` the expert's figure on prompts from templates that training never draws.
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import gettempdir

from rich.console import Console
from rich.progress import track
from rich.table import Table

from adapters_store.package import HostAdapter, read_package
from bench import picture
from bench.validity import VALIDATORS
from engine.config import EngineConfig
from engine.request import ExpertUse, GenerationRequest, SamplingParams
from engine.service import Engine
from engine.tokenizer import Tokenizer
from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import vocabulary_for
from training.measure import unseen
from training.tasks import TASKS, Example

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

    async def answer(
        self, prompt: str, expert: str | None, grammar: CompiledGrammar | None = None, max_tokens: int = MAX_TOKENS
    ) -> str:
        request = GenerationRequest(
            id="bench",
            prompt_ids=self.tokenizer.encode_chat([("user", prompt)]),
            experts=(ExpertUse(self.experts[expert], 1.0),) if expert else (),
            sampling=SamplingParams(max_tokens=max_tokens),
            matcher=grammar.matcher() if grammar else None,
        )
        decoder = self.tokenizer.decoder()
        text = ""
        async for event in await self.engine.submit(request):
            text += decoder.push(event.token_id) if event.token_id is not None else ""
        return text + decoder.flush()

    def length_of(self, example: Example) -> int:
        """Tokens within which a right answer has ended."""
        return len(self.tokenizer.hf(example.answer)["input_ids"]) + 2

    async def answers(
        self, examples: Sequence[Example], expert: str | None, grammar: CompiledGrammar | None = None
    ) -> list[str]:
        return list(await asyncio.gather(*(self.answer(example.prompt, expert, grammar) for example in examples)))

    async def exact_of(self, examples: Sequence[Example], expert: str) -> float:
        """Exact match alone, which an answer that runs too long cannot reach any more."""
        asked = (self.answer(e.prompt, expert, max_tokens=self.length_of(e)) for e in examples)
        return exact(list(await asyncio.gather(*asked)), examples)


@dataclass(frozen=True, slots=True)
class Row:
    """Shares in 0..1 for one task."""

    task: str
    kind: str
    num_bytes: int
    content: float
    base: float
    expert: float
    with_grammar: float
    rephrased: float
    valid_base: float
    valid: float
    valid_with_grammar: float
    others: dict[str, float]
    """By expert, those of the other tasks."""

    @property
    def best_other(self) -> float:
        return max(self.others.values(), default=0.0)


def open_bench(base: Path, experts: Path, quantization: str, count: int, num_slots: int = 10) -> Bench:
    """An engine that takes `count` requests at a time."""
    tokenizer = Tokenizer.load(base)
    config = EngineConfig(
        base=base, quantization=quantization, num_tokens=len(tokenizer), max_queue=count + 1, num_slots=num_slots
    )
    engine = Engine.load(config)
    vocabulary = vocabulary_for(
        tokenizer.hf,
        engine.num_logits,
        tuple(sorted(tokenizer.eos_ids)),
        Path(gettempdir()) / "hotseat-bench",
    )
    packages = {path.name: read_package(path) for path in sorted(experts.glob("[!.]*")) if path.is_dir()}
    engine.start()
    return Bench(engine, tokenizer, GrammarCompiler(vocabulary), packages)


async def measure(bench: Bench, task: str, count: int, rivals: Sequence[str]) -> Row:
    """`rivals` are the experts whose answers fill the task's row of the matrix."""
    examples = unseen(bench.tokenizer.hf, TASKS[task], count, SEED)
    others = unseen(bench.tokenizer.hf, TASKS[task], count, SEED + 1, rephrased=True)
    base, own = await bench.answers(examples, None), await bench.answers(examples, task)
    held = await bench.answers(examples, task, bench.grammar_of(task))
    rephrased = await bench.answers(others, task)
    is_valid = VALIDATORS[task]
    manifest = bench.experts[task].manifest
    return Row(
        task=task,
        kind=manifest.kind_label,
        num_bytes=manifest.tensor_bytes,
        content=share([answer in example.loose for answer, example in zip(base, examples, strict=True)]),
        base=exact(base, examples),
        expert=exact(own, examples),
        with_grammar=exact(held, examples),
        rephrased=exact(rephrased, others),
        valid_base=share([is_valid(answer) for answer in base]),
        valid=share([is_valid(answer) for answer in own]),
        valid_with_grammar=share([is_valid(answer) for answer in held]),
        others={name: await bench.exact_of(examples, name) for name in rivals if name != task},
    )


def exact(answers: Sequence[str], examples: Sequence[Example]) -> float:
    return share([answer == example.answer for answer, example in zip(answers, examples, strict=True)])


def share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)


def quality_table(rows: Sequence[Row], quantization: str, count: int) -> Table:
    table = Table(title=f"Exact match in %, {count} unseen prompts for each task, greedy, {quantization}")
    headings = ("task", "adapter", "KiB", "base's content", "base", "expert", "+ grammar", "rephrased", "best other")
    for heading in (*headings, "valid: base", "expert", "+ grammar"):
        table.add_column(heading, justify="left" if heading in headings[:2] else "right")
    for row in rows:
        figures = map(percent, (row.content, row.base, row.expert, row.with_grammar, row.rephrased))
        other = percent(row.best_other) if row.others else "-"
        valid = map(percent, (row.valid_base, row.valid, row.valid_with_grammar))
        table.add_row(row.task, row.kind, f"{row.num_bytes / 1024:.0f}", *figures, other, *valid)
    return table


def matrix_table(rows: Sequence[Row]) -> Table:
    table = Table(title="Exact match in % of every expert (columns) on every task (rows)")
    table.add_column("task")
    for row in rows:
        table.add_column(row.task, justify="right")
    for row in rows:
        table.add_row(row.task, *(percent(row.expert if o.task == row.task else row.others[o.task]) for o in rows))
    return table


def line(row: Row) -> picture.Line:
    figures = (row.base, row.expert, row.with_grammar, row.rephrased, row.best_other)
    return picture.Line(row.task, row.kind, dict(zip(picture.COLUMNS, figures, strict=True)))


def percent(figure: float) -> str:
    return f"{100 * figure:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("models/nano"))
    parser.add_argument("--experts", type=Path, default=Path("adapters_store/experts"))
    parser.add_argument("--count", type=int, default=300, help="prompts per task")
    parser.add_argument("--quantization", default="int8", help="comma-separated")
    parser.add_argument("--own", action="store_true", help="leave out what the experts of other tasks answer")
    parser.add_argument("--svg", type=Path, help="draw the first quality table into this file")
    args = parser.parse_args()
    if args.own and args.svg:
        parser.error("the picture shows the best other expert, which --own leaves out")
    console = Console(width=150)
    for quantization in args.quantization.split(","):
        bench = open_bench(args.base, args.experts, quantization, args.count)
        tasks = [task for task in TASKS if task in bench.experts]
        rivals = [] if args.own else tasks
        rows = [
            asyncio.run(measure(bench, task, args.count, rivals)) for task in track(tasks, f"asking in {quantization}")
        ]
        bench.engine.stop()
        console.print(quality_table(rows, quantization, args.count))
        if not args.own:
            console.print(matrix_table(rows))
        console.print_json(json.dumps([asdict(row) for row in rows]), indent=None)
        if args.svg:
            title = f"Exact match in %, {args.count} unseen prompts for each task, greedy, {quantization}"
            picture.draw([line(row) for row in rows], title, args.svg)
            args.svg = None  # of the first quantization alone


if __name__ == "__main__":
    main()
