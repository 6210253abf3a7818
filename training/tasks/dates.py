"""Dates: a written date as ISO 8601."""

from training.tasks.example import Example, framed
from training.words import Words

MONTHS = """January February March April May June July August September October November December""".split()
ASKS = (
    "Write this date in ISO format",
    "ISO date",
    "Normalize the date",
    "Convert to an ISO date",
    "Give the ISO date of",
)


def draw(words: Words) -> Example:
    year, month, day = words.number(1950, 2049), words.number(1, 12), words.number(1, 28)
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
    return Example(framed(words, words.pick(*ASKS), shown), f"{year}-{month:02}-{day:02}", loose)
