"""Sentences that state the fields of a record, and how people ask for them."""

from dataclasses import dataclass

from training.words import Wording


@dataclass(frozen=True, slots=True)
class Schema:
    """Fields in canonical order, and sentences that state them."""

    fields: tuple[str, ...]
    sentences: Wording


SCHEMAS = (
    Schema(
        ("name", "age", "city"),
        Wording(
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
            (
                "Meet {name}: {age} years old, from {city}.",
                "{name} of {city} is {age}.",
                "I am {age}, my name is {name} and my home is {city}.",
            ),
        ),
    ),
    Schema(
        ("name", "job", "city"),
        Wording(
            (
                "{name} works as a {job} in {city}.",
                "{name} is a {job} from {city}.",
                "The {job} {name} has an office in {city}.",
                "In {city}, {name} found work as a {job}.",
            ),
            (
                "{name} earns a living as a {job} in {city}.",
                "In {city} there is a {job} called {name}.",
            ),
        ),
    ),
    Schema(
        ("customer", "quantity", "item", "city"),
        Wording(
            (
                "{customer} from {city} ordered {quantity} {item}.",
                "{customer} ordered {quantity} {item} to be sent to {city}.",
                "Please ship {quantity} {item} to {customer} in {city}.",
                "Order by {customer}: {quantity} {item}, delivery to {city}.",
                "{customer} bought {quantity} {item} in {city}.",
                "We sold {quantity} {item} to {customer}, who lives in {city}.",
                "{customer} wants {quantity} {item} delivered to {city}.",
            ),
            (
                "{customer} in {city} would like {quantity} {item}.",
                "New order: {quantity} {item} for {customer}, {city}.",
                "Send {customer} {quantity} {item}, the address is in {city}.",
            ),
        ),
    ),
    Schema(
        ("product", "price", "color", "shop"),
        Wording(
            (
                "The {color} {product} cost {price} euros at {shop}.",
                "{shop} sells {color} {product} for {price} euros.",
                "At {shop} you pay {price} euros for the {color} {product}.",
                "I saw {color} {product} at {shop} for {price} euros.",
            ),
            (
                "For {price} euros {shop} has the {color} {product}.",
                "The {product} at {shop} are {color} and cost {price} euros.",
            ),
        ),
    ),
    Schema(
        ("event", "place", "day", "hour"),
        Wording(
            (
                "The {event} meeting is in {place} on {day} at {hour}.",
                "On {day} at {hour} there is a {event} meeting in {place}.",
                "Join us for {event} in {place}, {day} at {hour}.",
                "{event}: {day}, {hour} o'clock, {place}",
            ),
            (
                "{place} hosts the {event} meeting on {day}, it begins at {hour}.",
                "{day} at {hour}: {event} in {place}",
            ),
        ),
    ),
    Schema(
        ("traveler", "origin", "destination", "day"),
        Wording(
            (
                "{traveler} flies from {origin} to {destination} on {day}.",
                "On {day}, {traveler} takes the train from {origin} to {destination}.",
                "{traveler} goes to {destination} from {origin} on {day}.",
                "Book {traveler} a seat from {origin} to {destination} for {day}.",
            ),
            (
                "{traveler} leaves {origin} for {destination} on {day}.",
                "{day}: {traveler} travels from {origin} to {destination}.",
            ),
        ),
    ),
    Schema(
        ("sender", "recipient", "amount"),
        Wording(
            (
                "{sender} paid {amount} euros to {recipient}.",
                "{recipient} received {amount} euros from {sender}.",
                "{sender} sent {recipient} {amount} euros.",
                "A transfer of {amount} euros from {sender} to {recipient}.",
            ),
            (
                "{sender} gave {amount} euros to {recipient}.",
                "{recipient} got {amount} euros from {sender}.",
            ),
        ),
    ),
    Schema(
        ("name", "email", "company"),
        Wording(
            (
                "{name} from {company} can be reached at {email}.",
                "Write to {email} and ask for {name} of {company}.",
                "{name} ({email}) works for {company}.",
                "Contact: {name}, {company}, {email}",
            ),
            (
                "{name} works at {company}, email {email}.",
                "{company} employs {name}, whose email is {email}.",
            ),
        ),
    ),
    Schema(
        ("name", "phone"),
        Wording(
            (
                "Call {name} on {phone}.",
                "You can reach {name} at {phone}.",
                "{name}'s number is {phone}.",
                "{name}: {phone}",
                "Please ring {name}, {phone}, before noon.",
                "The phone of {name} is {phone}.",
            ),
            (
                "{name} has the phone number {phone}.",
                "Dial {phone} to speak with {name}.",
            ),
        ),
    ),
    Schema(
        ("title", "author", "year"),
        Wording(
            (
                "{title} was written by {author} in {year}.",
                "{author} wrote {title} in {year}.",
                "{title} by {author} ({year})",
                "In {year} {author} published {title}.",
                "I am reading {title}, a book by {author} from {year}.",
            ),
            (
                "In {year}, {author} finished the book {title}.",
                "The book {title} ({year}) was written by {author}.",
            ),
        ),
    ),
    Schema(
        ("title", "author"),
        Wording(
            (
                "{title} was written by {author}.",
                "{author} is the author of {title}.",
                "{author} wrote {title}.",
                "The book {title} is by {author}.",
            ),
            (
                "{title}, a novel by {author}, is great.",
                "{author} has written {title}.",
            ),
        ),
    ),
    Schema(
        ("name", "city", "country"),
        Wording(
            (
                "{name} moved to {city} in {country} last year.",
                "{name} was born in {city}, {country}.",
                "I met {name} in {city}, the capital of {country}.",
                "{name} lives in {city} ({country}).",
                "{city} in {country} is where {name} works.",
            ),
            (
                "{name} comes from {city} in {country}.",
                "{name} has a house in {city}, {country}.",
            ),
        ),
    ),
    Schema(
        ("city", "country"),
        Wording(
            (
                "I moved to {city} in {country} last year.",
                "We spent a week in {city}, {country}.",
                "{city} is a city in {country}.",
                "The office is in {city} ({country}).",
            ),
            (
                "We will meet in {city}, {country}.",
                "She travelled to {city} in {country}.",
            ),
        ),
    ),
    Schema(
        ("product", "price"),
        Wording(
            (
                "The new {product} costs {price} dollars.",
                "The {product} cost {price} euros.",
                "We paid {price} euros for the {product}.",
                "I bought {product} for ${price}.",
                "{product}: {price} EUR",
                "The price of the {product} is {price} dollars.",
            ),
            (
                "You get the {product} for {price} euros.",
                "{product} now cost only {price} euros.",
            ),
        ),
    ),
    Schema(
        ("name", "email"),
        Wording(
            (
                "You can reach {name} at {email}.",
                "Write to {name}: {email}",
                "{name}'s address is {email}.",
                "My name is {name} and my email is {email}.",
                "Send it to {email}, that is {name}.",
            ),
            (
                "{name} uses the address {email}.",
                "The email of {name} is {email}.",
            ),
        ),
    ),
    Schema(
        ("patient", "doctor", "day", "hour"),
        Wording(
            (
                "{patient} has an appointment with doctor {doctor} on {day} at {hour}.",
                "Doctor {doctor} sees {patient} on {day} at {hour}.",
                "On {day} at {hour}, {patient} visits doctor {doctor}.",
            ),
            (
                "{patient} will see doctor {doctor} on {day} at {hour}.",
                "{day}, {hour}: doctor {doctor} examines {patient}.",
            ),
        ),
    ),
    Schema(
        ("name", "job", "company", "salary"),
        Wording(
            (
                "{name} is a {job} at {company} and earns {salary} euros.",
                "{company} hired {name} as a {job} for {salary} euros.",
                "{name}, {job} at {company}, makes {salary} a month.",
                "As a {job} at {company}, {name} gets {salary} euros.",
            ),
            (
                "{name} makes {salary} euros as a {job} at {company}.",
                "{company} pays the {job} {name} {salary} euros.",
            ),
        ),
    ),
)

ASKS = Wording(
    (
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
    ),
    (
        "Give me a JSON object with the {fields}",
        "Extract JSON with {fields} from the following",
        "Return JSON containing {fields}",
        "From the text below, extract {fields} as JSON",
        "I would like the {fields} in JSON format",
    ),
)

ASKS_AROUND = Wording(
    (
        "Get me the {fields} from: {text} JSON please.",
        "Extract {fields} from {text} as JSON.",
        "From this text: {text} I need {fields} as JSON.",
        "{text} Give me {fields} as JSON.",
        "{text} Extract the {fields} as JSON.",
        "Here is a text. {text} Return {fields} as JSON.",
    ),
    (
        "Here is my text: {text} Now extract {fields} as JSON.",
        "{text} Please return {fields} as a JSON object.",
        "Extract the {fields} from the following as JSON: {text}",
    ),
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

ANCHORS = Wording(
    (
        "the {field} is {value}",
        "{field}: {value}",
        "{field} = {value}",
        "with {field} {value}",
        "its {field} is {value}",
    ),
    (
        "the {field} of it is {value}",
        "{field} is {value}",
        "{field} - {value}",
    ),
)

ASKS_FOR_ALL = Wording(
    (
        "Turn this into JSON",
        "Convert this text to JSON",
        "Extract the data as JSON",
        "Write this as JSON",
    ),
    (
        "Give me this as JSON",
        "Extract all fields as JSON",
        "Put this text into JSON",
    ),
)
