"""Extraction: named fields of a sentence as a JSON object, in the order in which the prompt asks for them."""

import json
from dataclasses import dataclass

from training.tasks.example import Example, framed, listed
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


@dataclass(frozen=True, slots=True)
class Schema:
    """Fields in canonical order, and sentences that state them."""

    fields: tuple[str, ...]
    sentences: tuple[str, ...]


SCHEMAS = (
    Schema(
        ("name", "age", "city"),
        (
            "{name} is {age} years old and lives in {city}.",
            "{name} lives in {city} and is {age} years old.",
            "My name is {name}, I am {age} and I live in {city}.",
            "In {city} we met {name}, who is {age}.",
            "{name}, {age}, from {city}",
            "{name} from {city} turned {age} last week.",
            "At {age}, {name} moved to {city}.",
            "I'm {name} from {city}, {age} years old.",
        ),
    ),
    Schema(
        ("name", "job", "city"),
        (
            "{name} works as a {job} in {city}.",
            "{name} is a {job} from {city}.",
            "The {job} {name} has an office in {city}.",
            "In {city}, {name} found work as a {job}.",
        ),
    ),
    Schema(
        ("customer", "quantity", "item", "city"),
        (
            "{customer} from {city} ordered {quantity} {item}.",
            "{customer} ordered {quantity} {item} to be sent to {city}.",
            "Please ship {quantity} {item} to {customer} in {city}.",
            "Order by {customer}: {quantity} {item}, delivery to {city}.",
            "{customer} bought {quantity} {item} in {city}.",
            "We sold {quantity} {item} to {customer}, who lives in {city}.",
            "{customer} wants {quantity} {item} delivered to {city}.",
        ),
    ),
    Schema(
        ("product", "price", "color", "shop"),
        (
            "The {color} {product} cost {price} euros at {shop}.",
            "{shop} sells {color} {product} for {price} euros.",
            "At {shop} you pay {price} euros for the {color} {product}.",
            "I saw {color} {product} at {shop} for {price} euros.",
        ),
    ),
    Schema(
        ("event", "place", "day", "hour"),
        (
            "The {event} meeting is in {place} on {day} at {hour}.",
            "On {day} at {hour} there is a {event} meeting in {place}.",
            "Join us for {event} in {place}, {day} at {hour}.",
            "{event}: {day}, {hour} o'clock, {place}",
        ),
    ),
    Schema(
        ("traveler", "origin", "destination", "day"),
        (
            "{traveler} flies from {origin} to {destination} on {day}.",
            "On {day}, {traveler} takes the train from {origin} to {destination}.",
            "{traveler} goes to {destination} from {origin} on {day}.",
            "Book {traveler} a seat from {origin} to {destination} for {day}.",
        ),
    ),
    Schema(
        ("sender", "recipient", "amount"),
        (
            "{sender} paid {amount} euros to {recipient}.",
            "{recipient} received {amount} euros from {sender}.",
            "{sender} sent {recipient} {amount} euros.",
            "A transfer of {amount} euros from {sender} to {recipient}.",
        ),
    ),
    Schema(
        ("name", "email", "company"),
        (
            "{name} from {company} can be reached at {email}.",
            "Write to {email} and ask for {name} of {company}.",
            "{name} ({email}) works for {company}.",
            "Contact: {name}, {company}, {email}",
        ),
    ),
)

ASKS = (
    "Extract {fields} as JSON",
    "Extract the {fields} as JSON",
    "Extract {fields} from this text as JSON",
    "Give me the {fields} as JSON",
    "Return {fields} as a JSON object",
    "Get the {fields} in JSON",
    "Pull {fields} out of this text as JSON",
    "Find the {fields} and answer in JSON",
    "I need {fields} as JSON",
    "Read the text and return {fields} as JSON",
    "Convert to JSON with {fields}",
    "JSON with {fields}",
)
ASKS_FOR_ALL = (
    "Turn this into JSON",
    "Convert this text to JSON",
    "Extract the data as JSON",
    "Write this as JSON",
)


def draw_value(words: Words, field: str) -> str | int:
    if field in ("name", "customer", "traveler", "sender", "recipient"):
        full = words.chance(0.25)
        return words.first_name() + (f" {words.first_name()}" if full else "")
    if field in ("city", "place", "origin", "destination", "shop", "company"):
        return words.place()
    if field in ("item", "product", "event"):
        return words.item()
    if field == "email":
        domain = words.pick("com", "org", "net", "pt")
        return f"{words.plain()}@{words.plain()}.{domain}"
    if field == "age":
        return words.number(18, 99)
    if field == "hour":
        return words.number(7, 22)
    if field == "quantity":
        return words.number(2, 60)
    if field in ("price", "amount"):
        return words.number(2, 980)
    return words.pick(*{"day": DAYS, "color": COLORS, "job": JOBS}[field])


def draw_record(words: Words, schema: Schema) -> dict[str, str | int]:
    """Values for every field; no two are equal, or the prompt would not say which is which."""
    while True:
        record = {field: draw_value(words, field) for field in schema.fields}
        if len(set(map(str, record.values()))) == len(record):
            return record


def draw(words: Words) -> Example:
    schema = words.pick(*SCHEMAS)
    record = draw_record(words, schema)
    text = words.pick(*schema.sentences).format(**record)
    if words.chance(0.12):
        chosen = list(schema.fields)
        instruction = words.pick(*ASKS_FOR_ALL)
    else:
        chosen = words.rng.sample(schema.fields, words.rng.randint(2, len(schema.fields)))
        if words.chance(0.4):
            chosen.sort(key=schema.fields.index)
        fields = ", ".join(chosen) if words.chance(0.3) else listed(chosen)
        instruction = words.pick(*ASKS).format(fields=fields)
    picked = {field: record[field] for field in chosen}
    loose = (
        ", ".join(f"{field} is {value}" for field, value in picked.items()),
        "; ".join(f"{field}: {value}" for field, value in picked.items()),
    )
    return Example(framed(words, instruction, text), json.dumps(picked), loose)
