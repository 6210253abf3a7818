"""What every task yields: a prompt, the strict answer an expert gives, and the base's looser ways to say it."""

from collections.abc import Callable
from dataclasses import dataclass

from training.words import Wording, Words

# Repeated by how common they are.
FRAMES = Wording(
    ("{ask}: {text}",) * 10
    + ("{ask}:\n{text}",) * 3
    + ('{ask}: "{text}"',) * 2
    + ("{ask}. {text}",) * 2
    + ("{text}\n{ask}.",) * 3,
    (
        "{ask}\n\n{text}",
        "{ask}: '{text}'",
        "{text}\n\n{ask}, please.",
        "{ask} - {text}",
        "Could you help? {ask}: {text}",
    ),
)


@dataclass(frozen=True, slots=True)
class Example:
    """One exchange. `answer` is the only right strict form; each text of `loose` has the same content."""

    prompt: str
    answer: str
    loose: tuple[str, ...]


Draw = Callable[[Words], Example]


def listed(words: list[str], joiner: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + f" {joiner} {words[-1]}"


def lowered(sentence: str) -> str:
    """Without its capital, unless that belongs to the word: `I`, `JSON`."""
    return sentence[0].lower() + sentence[1:] if sentence[1:2].islower() else sentence


def framed(words: Words, instruction: str, text: str) -> str:
    """An instruction and the text it is about, in one of the ways people put them together."""
    if words.chance(0.15):
        instruction = f"Please {lowered(instruction)}"
    if words.chance(0.1):
        instruction = lowered(instruction)
    return words.say(FRAMES, ask=instruction, text=text)
