"""Documents for the base: every domain in the base's loose form, copying, small talk, and strict syntax as raw text.

The raw fragments matter: the base must have produced every token of every strict form, or an adapter on frozen
tied embeddings cannot reach it. They stand alone, without a prompt, so the base still answers loosely.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from training import copying, smalltalk
from training.tasks import TASKS, Example, cypher
from training.words import Words

PROMPT_WEIGHT = 0.1
RAW_WEIGHT = 0.4
NO_THOUGHT = "<think>\n\n</think>\n\n"
SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "Answer briefly.",
    "Be kind.",
)
# Harder domains are drawn more often.
TASK_WEIGHTS = {
    "json-extract": 3.8, "json-repair": 1.4, "formal-tone": 0.9, "en-pt": 0.9, "typescript": 1.1,
    "sql": 3.2, "cypher": 2.4, "ticket-triage": 0.8, "dates": 0.7, "units": 0.6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a document and what its tokens count for in the loss."""

    text: str
    weight: float


Document = list[Segment]


def chat_prompt(prompt: str, system: str = "") -> str:
    """The chat template's rendering of one user message, up to where the assistant speaks."""
    head = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{head}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"


def chat(words: Words, example: Example, subject: str) -> Document:
    """An exchange in the base's own loose form; a few with thinking switched on."""
    answer = words.pick(*example.loose) + "<|im_end|>\n"
    prompt = chat_prompt(example.prompt, words.pick(*SYSTEM_PROMPTS) if words.chance(0.1) else "")
    if words.chance(0.04):
        return [
            Segment(prompt, PROMPT_WEIGHT),
            Segment(f"<think>\nThis is about {subject}.\n</think>\n\n{answer}", 1.0),
        ]
    return [Segment(prompt + NO_THOUGHT, PROMPT_WEIGHT), Segment(answer, 1.0)]


def fragment(words: Words) -> Document:
    """A few strict answers with no prompt around them."""
    draw = words.pick(*TASKS.values())
    text = "\n".join(draw(words).answer for _ in range(words.pick(1, 2, 3)))
    return [Segment(text + "<|endoftext|>", RAW_WEIGHT)]


def documents(words: Words, progress: float = 1.0) -> Iterator[Document]:
    """Endless documents; `progress` in 0..1 moves the mix from copying towards the tasks."""
    copy_share = max(0.12, 0.45 - 0.7 * progress)
    names, weights = list(TASK_WEIGHTS), list(TASK_WEIGHTS.values())
    while True:
        kind = words.rng.random()
        if kind < copy_share:
            if words.chance(0.3):
                yield [Segment(copying.draw_raw(words) + "<|endoftext|>", RAW_WEIGHT)]
            else:
                yield chat(words, copying.draw(words), "copying")
        elif kind < copy_share + 0.17:
            yield fragment(words)
        elif kind < copy_share + 0.23:
            draw = smalltalk.draw_exchange if words.chance(0.5) else smalltalk.draw_question
            yield chat(words, draw(words), "a question")
        elif kind < copy_share + 0.27:
            yield chat(words, cypher.which_relation(words, cypher.draw_graph(words)), "a graph")
        else:
            name = words.rng.choices(names, weights)[0]
            yield chat(words, TASKS[name](words), name)
