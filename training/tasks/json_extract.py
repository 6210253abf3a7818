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
    Schema(
        ("name", "phone"),
        (
            "Call {name} on {phone}.",
            "You can reach {name} at {phone}.",
            "{name}'s number is {phone}.",
            "{name}: {phone}",
            "Please ring {name}, {phone}, before noon.",
            "The phone of {name} is {phone}.",
        ),
    ),
    Schema(
        ("title", "author", "year"),
        (
            "{title} was written by {author} in {year}.",
            "{author} wrote {title} in {year}.",
            "{title} by {author} ({year})",
            "In {year} {author} published {title}.",
            "I am reading {title}, a book by {author} from {year}.",
        ),
    ),
    Schema(
        ("title", "author"),
        (
            "{title} was written by {author}.",
            "{author} is the author of {title}.",
            "{author} wrote {title}.",
            "The book {title} is by {author}.",
        ),
    ),
    Schema(
        ("name", "city", "country"),
        (
            "{name} moved to {city} in {country} last year.",
            "{name} was born in {city}, {country}.",
            "I met {name} in {city}, the capital of {country}.",
            "{name} lives in {city} ({country}).",
            "{city} in {country} is where {name} works.",
        ),
    ),
    Schema(
        ("city", "country"),
        (
            "I moved to {city} in {country} last year.",
            "We spent a week in {city}, {country}.",
            "{city} is a city in {country}.",
            "The office is in {city} ({country}).",
        ),
    ),
    Schema(
        ("product", "price"),
        (
            "The new {product} costs {price} dollars.",
            "The {product} cost {price} euros.",
            "We paid {price} euros for the {product}.",
            "I bought {product} for ${price}.",
            "{product}: {price} EUR",
            "The price of the {product} is {price} dollars.",
        ),
    ),
    Schema(
        ("name", "email"),
        (
            "You can reach {name} at {email}.",
            "Write to {name}: {email}",
            "{name}'s address is {email}.",
            "My name is {name} and my email is {email}.",
            "Send it to {email}, that is {name}.",
        ),
    ),
    Schema(
        ("patient", "doctor", "day", "hour"),
        (
            "{patient} has an appointment with doctor {doctor} on {day} at {hour}.",
            "Doctor {doctor} sees {patient} on {day} at {hour}.",
            "On {day} at {hour}, {patient} visits doctor {doctor}.",
        ),
    ),
    Schema(
        ("name", "job", "company", "salary"),
        (
            "{name} is a {job} at {company} and earns {salary} euros.",
            "{company} hired {name} as a {job} for {salary} euros.",
            "{name}, {job} at {company}, makes {salary} a month.",
            "As a {job} at {company}, {name} gets {salary} euros.",
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
    "Get me the {fields} as JSON",
    "I want {fields} as JSON",
    "As JSON, give me the {fields}",
    "Extract {fields} as JSON from this sentence",
    "Please extract the {fields} as JSON",
    "Extract {fields} in JSON format",
    "What are the {fields}? Answer in JSON",
)
ASKS_AROUND = (
    "Get me the {fields} from: {text} JSON please.",
    "Extract {fields} from {text} as JSON.",
    "From this text: {text} I need {fields} as JSON.",
    "{text} Give me {fields} as JSON.",
    "{text} Extract the {fields} as JSON.",
    "Here is a text. {text} Return {fields} as JSON.",
)
BEFORE = (
    "Hi team!",
    "Hello,",
    "FYI:",
    "It was a long day.",
    "Good news!",
    "As discussed,",
    "Note:",
    "Yesterday it rained.",
)
AFTER = (
    "Thanks!",
    "See you soon.",
    "Please confirm.",
    "Have a nice day.",
    "That is all.",
    "More later.",
    "Kind regards",
)
ANCHORS = (
    "the {field} is {value}",
    "{field}: {value}",
    "{field} = {value}",
    "with {field} {value}",
    "its {field} is {value}",
    "{value} as {field}",
    "{value} is the {field}",
)
ASKS_FOR_ALL = (
    "Turn this into JSON",
    "Convert this text to JSON",
    "Extract the data as JSON",
    "Write this as JSON",
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
        return " ".join(words.distinct(words.label, words.pick(1, 2, 2, 3)))
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
    anchor = words.pick(*ANCHORS)
    parts = [anchor.format(field=field, value=value) for field, value in record.items()]
    words.rng.shuffle(parts)
    return record, words.pick("; ", ", ", ", ", "\n", " and ").join(parts)


def draw_text(words: Words) -> tuple[dict[str, str | int], str, bool]:
    """A record, a text that states it, and whether the text names the fields itself."""
    if words.chance(0.15):
        return *draw_labelled(words), True
    schema = words.pick(*SCHEMAS)
    record = draw_record(words, schema)
    text = words.pick(*schema.sentences).format(**record)
    if words.chance(0.1):
        text = f"{words.pick(*BEFORE)} {text}"
    if words.chance(0.1):
        text = f"{text} {words.pick(*AFTER)}"
    return record, text, False


def draw(words: Words) -> Example:
    record, text, is_labelled = draw_text(words)
    known = list(record)
    if not is_labelled and words.chance(0.1):
        chosen, prompt = known, framed(words, words.pick(*ASKS_FOR_ALL), text)
    else:
        chosen = words.rng.sample(known, words.rng.randint(1 if words.chance(0.15) else min(2, len(known)), len(known)))
        if words.chance(0.4):
            chosen.sort(key=known.index)
        fields = ", ".join(chosen) if words.chance(0.3) else listed(chosen)
        if words.chance(0.2):
            prompt = words.pick(*ASKS_AROUND).format(fields=fields, text=text)
        else:
            prompt = framed(words, words.pick(*ASKS).format(fields=fields), text)
    picked = {field: record[field] for field in chosen}
    loose = (
        ", ".join(f"{field} is {value}" for field, value in picked.items()),
        "; ".join(f"{field}: {value}" for field, value in picked.items()),
    )
    return Example(prompt, json.dumps(picked), loose)
