"""Adapter kinds on the same tasks and data: `python -m bench.kinds [--steps 150] [--seeds 3] [--results FILE]`.

Question: with the same base, the same examples in the same order and the same number of steps, how good is LoRA of rank
16 beside IA3 with a soft prompt on tasks of form, and beside DoRA of rank 12 and 24 on tasks of skill? Exact match on
unseen prompts by teacher forcing in fp32; the mean over the seeds, the lowest and highest, and the ratio to LoRA. Each
kind has the learning rate that the shipped experts of its kind are trained with. The trainings take an hour or so: each
result is a line of FILE as soon as it is known, and a second run with the same FILE does only what is missing.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from training.expert import Expert, train
from training.experts import ATTENTION, EXPERTS, IA3_RATE, LORA_RATE, MLP, PeftConfig, ia3, lora
from training.measure import greedy_matches, unseen
from training.nano import load
from training.tasks import TASKS
from training.tokenizer import load_tokenizer

BASELINE = "lora r16"
TEST_SEED = 4711


@dataclass(frozen=True, slots=True)
class Kind:
    config: Callable[[], PeftConfig]
    rate: float
    virtual_tokens: int = 0


KINDS = {
    BASELINE: Kind(lambda: lora(16, ATTENTION + MLP), LORA_RATE),
    "ia3 + 8 tokens": Kind(ia3, IA3_RATE, 8),
    "dora r12": Kind(lambda: lora(12, ATTENTION + MLP, dora=True), LORA_RATE),
    "dora r24": Kind(lambda: lora(24, ATTENTION + MLP, dora=True), LORA_RATE),
}
FORM = (BASELINE, "ia3 + 8 tokens")
SKILL = (BASELINE, "dora r12", "dora r24")
COMPARED = {
    "json-extract": FORM,
    "json-repair": FORM,
    "formal-tone": FORM,
    "typescript": SKILL,
    "sql": SKILL,
    "cypher": SKILL,
}


@dataclass(frozen=True, slots=True)
class Job:
    task: str
    kind: str
    seed: int
    steps: int
    count: int
    base: str


def measure(job: Job) -> float:
    """Train one adapter on one thread; its exact match, 0..1."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    kind = KINDS[job.kind]
    spec = replace(EXPERTS[job.task], steps=job.steps, rate=kind.rate, config=kind.config)
    tokenizer = load_tokenizer(Path(job.base))
    expert = Expert(load(Path(job.base)), kind.config(), kind.virtual_tokens)
    train(expert, tokenizer, spec, job.task, job.seed)
    expert.model.eval()
    examples = unseen(tokenizer, TASKS[job.task], job.count, TEST_SEED)
    return mean(greedy_matches(expert.logits, tokenizer, examples, [example.answer for example in examples]))


def render(results: dict[tuple[str, str], list[float]], steps: int, count: int) -> Table:
    table = Table(title=f"Exact match in % after {steps} steps, {count} unseen prompts: mean (lowest to highest)")
    for heading in ("task", "adapter", "exact match", "ratio to LoRA"):
        table.add_column(heading, justify="left" if heading in ("task", "adapter") else "right")
    for (task, kind), found in results.items():
        baseline = mean(results[task, BASELINE])
        ratio = f"{mean(found) / baseline:.3f}" if baseline else "-"
        shown = f"{100 * mean(found):.1f} ({100 * min(found):.1f} to {100 * max(found):.1f})"
        table.add_row(task, kind, shown, ratio, end_section=kind == COMPARED[task][-1])
    return table


def read_results(file: Path) -> dict[Job, float]:
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {Job(**row["job"]): row["exact"] for row in rows}


def run(jobs: Sequence[Job], workers: int, file: Path) -> dict[Job, float]:
    """What `file` holds of these jobs, and the rest measured and written to it."""
    results = {job: exact for job, exact in read_results(file).items() if job in jobs}
    # A process for each training: what torch allocates grows from one to the next.
    with ProcessPoolExecutor(workers, get_context("spawn"), max_tasks_per_child=1) as pool, file.open("a") as out:
        running = {pool.submit(measure, job): job for job in jobs if job not in results}
        for done in track(as_completed(running), "training", total=len(running)):
            results[running[done]] = done.result()
            print(json.dumps({"job": asdict(running[done]), "exact": done.result()}), file=out, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, default=Path("models/nano"))
    parser.add_argument("--tasks", default=",".join(COMPARED), help="comma-separated")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=300, help="unseen prompts per task")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time, each on one thread")
    parser.add_argument("--results", type=Path, default=Path("kinds.jsonl"), help="where each result is kept")
    args = parser.parse_args()
    jobs = [
        Job(task, kind, seed, args.steps, args.count, str(args.base))
        for task in args.tasks.split(",")
        for kind in COMPARED[task]
        for seed in range(1, args.seeds + 1)
    ]
    results = run(jobs, args.jobs, args.results)
    by_kind: dict[tuple[str, str], list[float]] = {}
    for job in jobs:
        by_kind.setdefault((job.task, job.kind), []).append(results[job])
    Console(width=100).print(render(by_kind, args.steps, args.count))


if __name__ == "__main__":
    main()
