"""Repair: a small JSON object with one or two faults, and the valid object."""

import json

from training.tasks.example import Example, framed
from training.words import Wording, Words

ASKS = Wording(
    (
        "Fix this JSON",
        "Repair this JSON",
        "Correct this JSON",
        "Make this valid JSON",
        "This JSON is broken, fix it",
        "Repair the broken JSON",
        "Fix the JSON syntax",
    ),
    (
        "My JSON does not parse, repair it",
        "Turn this into valid JSON",
        "Clean up this malformed JSON",
        "There is a mistake in this JSON, correct it",
        "Give me the corrected JSON",
    ),
)


def draw_object(words: Words) -> dict[str, object]:
    keys = words.distinct(words.plain, words.pick(1, 2, 2, 3, 3, 4))
    return {key: draw_value(words) for key in keys}


def draw_value(words: Words) -> object:
    kind = words.rng.random()
    if kind < 0.5:
        return words.pick(words.item, words.place, words.first_name)()
    if kind < 0.8:
        return words.number(0, 999)
    if kind < 0.9:
        return words.pick(True, False, None)
    return [words.item() for _ in range(words.pick(1, 2, 2))]


def unquote_key(words: Words, text: str, value: dict[str, object]) -> str:
    key = words.pick(*value)
    return text.replace(f'"{key}":', f"{key}:", 1)


def unquote_all_keys(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    for key in value:
        text = text.replace(f'"{key}":', f"{key}:", 1)
    return text


def single_quotes(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text.replace('"', "'")


def trailing_comma(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text.removesuffix("}") + ",}"


def no_closing_brace(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text[:-1]


def no_opening_brace(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text[1:]


def missing_comma(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text.replace(", ", " ", 1)


def python_words(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text.replace("true", "True").replace("false", "False").replace("null", "None")


def equals_sign(words: Words, text: str, value: dict[str, object]) -> str:
    key = words.pick(*value)
    return text.replace(f'"{key}": ', f'"{key}" = ', 1)


FAULTS = (
    unquote_key,
    unquote_all_keys,
    single_quotes,
    trailing_comma,
    no_closing_brace,
    no_opening_brace,
    missing_comma,
    python_words,
    equals_sign,
)


def draw(words: Words) -> Example:
    value = draw_object(words)
    answer = json.dumps(value)
    broken = answer
    while broken == answer:
        for fault in words.rng.sample(FAULTS, words.pick(1, 1, 2)):
            broken = fault(words, broken, value)
    said = [f"{key} is {json.dumps(item).replace(chr(34), '')}" for key, item in value.items()]
    return Example(framed(words, words.say(ASKS), broken), answer, (", ".join(said),))
