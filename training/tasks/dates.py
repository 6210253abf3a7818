"""Dates: a written date as ISO 8601."""

from datetime import date, timedelta

from training.tasks.example import Example, framed
from training.words import Wording, Words

MONTHS = """January February March April May June July August September October November December""".split()
ASKS = Wording(
    (
        "Write this date in ISO format",
        "ISO date",
        "Normalize the date",
        "Convert to an ISO date",
        "Give the ISO date of",
    ),
    (
        "Convert this date to ISO 8601",
        "What is this date in ISO format",
        "Change the date to ISO",
        "Normalize this date to ISO",
        "Which ISO date is this",
    ),
)


FIRST, DAYS = date(1950, 1, 1), 36_525


def draw_date(words: Words) -> date:
    return FIRST + timedelta(days=words.number(0, DAYS - 1))


def draw(words: Words) -> Example:
    drawn = words.combination(lambda: draw_date(words))
    year, month, day = drawn.year, drawn.month, drawn.day
    name = MONTHS[month - 1]
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in (11, 12, 13) else 0, "th")
    shown = words.pick(
        f"{day} {name} {year}",
        f"{name} {day}, {year}",
        f"{day} {name[:3]} {year}",
        f"{name[:3]} {day} {year}",
        f"the {day}{suffix} of {name} {year}",
        f"{day:02}/{month:02}/{year}",
        f"{day}.{month}.{year}",
    )
    loose = (f"year {year}, month {month:02}, day {day:02}",)
    return Example(framed(words, words.say(ASKS), shown), drawn.isoformat(), loose)
