"""Extraction: named fields of a sentence as a JSON object, in the order in which the prompt asks for them."""

import json

from training.tasks.example import Example, framed, listed
from training.tasks.json_extract_wording import AFTER, ANCHORS, ASKS, ASKS_AROUND, ASKS_FOR_ALL, BEFORE, SCHEMAS, Schema
from training.words import Words

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLORS = ("red", "blue", "green", "black", "white", "yellow", "brown", "grey", "pink", "orange")
JOBS = (
    "nurse",
    "teacher",
    "baker",
    "driver",
    "lawyer",
    "farmer",
    "painter",
    "pilot",
    "cook",
    "plumber",
    "dentist",
)


def draw_value(words: Words, field: str) -> str | int:
    if field in ("name", "customer", "traveler", "sender", "recipient", "author", "patient", "doctor"):
        full = words.chance(0.25)
        return words.first_name() + (f" {words.first_name()}" if full else "")
    if field in ("city", "place", "origin", "destination", "shop", "company", "country"):
        return words.place()
    if field in ("item", "product", "event"):
        return words.item()
    if field == "email":
        domain = words.pick("com", "org", "net", "pt")
        return f"{words.plain()}@{words.plain()}.{domain}"
    if field == "title":
        return " ".join(words.distinct(words.label, words.pick(1, 1, 2)))
    if field == "phone":
        return "".join(str(words.number(0, 9)) for _ in range(words.number(5, 9)))
    if field == "year":
        return words.number(1900, 2029)
    if field == "age":
        return words.number(18, 99)
    if field == "hour":
        return words.number(7, 22)
    if field == "quantity":
        return words.number(2, 60)
    if field in ("price", "amount", "salary"):
        return words.number(2, 980)
    return words.pick(*{"day": DAYS, "color": COLORS, "job": JOBS}[field])


def draw_record(words: Words, schema: Schema) -> dict[str, str | int]:
    """Values for every field; no two are equal, or the prompt would not say which is which."""
    while True:
        record = {field: draw_value(words, field) for field in schema.fields}
        if len(set(map(str, record.values()))) == len(record):
            return record


def draw_labelled(words: Words) -> tuple[dict[str, str | int], str]:
    """Any fields at all, each beside its name: what carries over to fields that no schema has."""
    fields = words.distinct(words.plain, words.pick(2, 2, 3, 4))
    values = words.distinct(words.pick(words.place, words.item, words.first_name), len(fields))
    record: dict[str, str | int] = dict(zip(fields, values, strict=True))
    for field in fields:
        if words.chance(0.25):
            record[field] = words.number(2, 5000)
    anchor = words.form(ANCHORS)
    parts = [anchor.format(field=field, value=value) for field, value in record.items()]
    words.rng.shuffle(parts)
    return record, words.pick("; ", ", ", ", ", "\n", " and ").join(parts)


def draw_text(words: Words) -> tuple[dict[str, str | int], str, bool]:
    """A record, a text that states it, and whether the text names the fields itself."""
    if words.chance(0.15):
        return *draw_labelled(words), True
    schema = words.pick(*SCHEMAS)
    record = draw_record(words, schema)
    text = words.say(schema.sentences, **record)
    if words.chance(0.1):
        text = f"{words.pick(*BEFORE)} {text}"
    if words.chance(0.1):
        text = f"{text} {words.pick(*AFTER)}"
    return record, text, False


def draw(words: Words) -> Example:
    record, text, is_labelled = draw_text(words)
    known = list(record)
    if not is_labelled and words.chance(0.1):
        chosen, prompt = known, framed(words, words.say(ASKS_FOR_ALL), text)
    else:
        chosen = words.rng.sample(known, words.rng.randint(1 if words.chance(0.15) else min(2, len(known)), len(known)))
        if words.chance(0.4):
            chosen.sort(key=known.index)
        fields = ", ".join(chosen) if words.chance(0.3) else listed(chosen)
        if words.chance(0.2):
            prompt = words.say(ASKS_AROUND, fields=fields, text=text)
        else:
            prompt = framed(words, words.say(ASKS, fields=fields), text)
    picked = {field: record[field] for field in chosen}
    loose = (
        ", ".join(f"{field} is {value}" for field, value in picked.items()),
        "; ".join(f"{field}: {value}" for field, value in picked.items()),
    )
    return Example(prompt, json.dumps(picked), loose)
