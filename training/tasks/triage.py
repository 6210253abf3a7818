"""Ticket classification: a support message, and one of six labels as the whole answer."""

import zlib

from training.tasks.example import Example, framed
from training.tasks.triage_wording import ASKS, CLOSERS, LABEL_LISTS, OPENERS, OTHER_PHRASES, PHRASES
from training.words import HELD_OUT_ONE_IN, Words

LABELS = tuple(sorted(PHRASES))


def is_held_out(label: str, phrase: str) -> bool:
    """Whether this pair of beginning and end is kept for tests; each half still occurs in training."""
    return zlib.crc32(f"{label}/{phrase}".encode()) % HELD_OUT_ONE_IN == 0


def draw_phrase(words: Words, label: str) -> str:
    if words.rephrased:
        return words.pick(*OTHER_PHRASES[label])
    while True:
        beginnings, ends = words.pick(*PHRASES[label])
        phrase = f"{words.pick(*beginnings)} {words.pick(*ends)}"
        if is_held_out(label, phrase) == words.held_out:
            return phrase


def draw(words: Words) -> Example:
    label = words.pick(*LABELS)
    phrase = draw_phrase(words, label)
    opener = words.pick(*OPENERS)
    if opener and not phrase.startswith("I "):
        phrase = phrase[0].lower() + phrase[1:]
    text = opener + phrase + words.pick(".", ".", "!", "") + words.pick(*CLOSERS)
    instruction = words.say(ASKS)
    if len(instruction.split()) > 2:
        instruction += words.pick(*LABEL_LISTS).format(labels=", ".join(LABELS))
    loose = (f"This message is about {label}.", f"It is a question of {label}.")
    return Example(framed(words, instruction, text), label, loose)
