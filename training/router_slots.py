"""What stands in a prompt where a bank of phrases leaves a slot: quantities, dates, JSON with and without faults.

Owns the slots that code can fill better than a list. Knows no routing. Called by `router_data`.
"""

import json
from collections.abc import Callable
from datetime import date, timedelta
from random import Random

from training.tasks import cypher, json_repair, sql
from training.tasks.dates import MONTHS
from training.words import Words

# One dimension a row, from the largest; of each unit, what people write.
UNITS = (
    (("km", "kilometers"), ("m", "meters", "metres"), ("dm",), ("cm", "centimeters"), ("mm", "millimeters")),
    (("t", "tonnes"), ("kg", "kilograms", "kilos"), ("g", "grams"), ("mg", "milligrams")),
    (("hl", "hectoliters"), ("l", "liters", "litres", "L"), ("dl",), ("cl",), ("ml", "milliliters")),
    (("MW",), ("kW", "kilowatts"), ("W", "watts")),
)  # fmt: skip


def quantity(rng: Random, unit: str) -> str:
    number = rng.choice(
        (str(rng.randint(1, 99)), str(rng.randint(1, 2000)), f"{rng.randint(0, 99)}.{rng.randint(1, 9)}")
    )
    return f"{number}{rng.choice((' ', ' ', ' ', ''))}{unit}"


def conversion(rng: Random) -> dict[str, str]:
    """A quantity and where it goes: down to a smaller unit, or up to a larger one."""
    row = rng.choice(UNITS)
    high, low = sorted(rng.sample(range(len(row)), 2))
    a, b = rng.choice(row[high]), rng.choice(row[low])
    large, small = quantity(rng, a), quantity(rng, b)
    joint = rng.choice(("to", "to", "in", "into", "as"))
    return {
        "q": large,
        "a": a,
        "b": b,
        "unit": rng.choice((a, b)),
        "down": f"{large} {joint} {b}",
        "up": f"{small} {joint} {a}",
        "qs": small,
    }


def written_date(rng: Random) -> str:
    day = date(1950, 1, 1) + timedelta(days=rng.randrange(36_500))
    name, short = MONTHS[day.month - 1], MONTHS[day.month - 1][:3]
    return rng.choice(
        (
            f"{day.day} {name} {day.year}",
            f"{name} {day.day}, {day.year}",
            f"{short} {day.day} {day.year}",
            f"{day.day:02}/{day.month:02}/{day.year}",
            f"{day.day}.{day.month}.{day.year}",
            f"{day.day}-{day.month:02}-{day.year % 100:02}",
            f"the {day.day}th of {name} {day.year}",
            f"{day.day} {short.lower()} {day.year % 100:02}",
        )
    )


def good_json(rng: Random) -> str:
    value = json_repair.draw_object(Words(rng))
    return json.dumps({"items": [value]} if rng.random() < 0.2 else value, indent=rng.choice((None, None, None, 2)))


def bad_json(rng: Random) -> str:
    words = Words(rng)
    value = json_repair.draw_object(words)
    good = json.dumps(value, indent=rng.choice((None, None, None, 2)))
    broken = good
    while broken == good:
        for fault in rng.sample((*json_repair.FAULTS, _no_quote, _cut, _double_comma), rng.choice((1, 1, 2))):
            broken = fault(words, broken, value)
    return f'{{"list": [{broken}]}}' if rng.random() < 0.1 else broken


def _no_quote(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    places = [i for i, char in enumerate(text) if char == '"']
    if not places:
        return text
    place = words.rng.choice(places)
    return text[:place] + text[place + 1 :]


def _cut(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text[: max(words.rng.randint(len(text) // 2, len(text) - 1), 2)]


def _double_comma(words: Words, text: str, value: dict[str, object]) -> str:  # noqa: ARG001
    return text.replace(",", ",,", 1)


def ddl(rng: Random) -> str:
    return sql.draw_table(Words(rng, pool_share=0.8)).create(Words(rng))


def graph(rng: Random) -> str:
    drawn = cypher.draw_graph(Words(rng, pool_share=0.8))
    if rng.random() < 0.5:
        return drawn.lines()
    # Properties inside the first pattern, as people write it on one line.
    a, relation, b = drawn.edges[0]
    shown = [f"(:{label} {{{', '.join(drawn.properties[label])}}})" for label in (a, b)]
    return f"{shown[0]}-[:{relation}]->{shown[1]}"


GENERATORS: dict[str, Callable[[Random], str]] = {
    "date": written_date,
    "good": good_json,
    "bad": bad_json,
    "ddl": ddl,
    "graph": graph,
}
GENERATED_SHARE = {"date": 0.5, "good": 1.0, "bad": 1.0, "ddl": 0.6, "graph": 0.6}
