"""TypeScript: one interface from its name and its fields."""

from training.tasks.example import Example, listed
from training.words import Wording, Words

TYPES = {
    "string": ("a string", "string", "text"),
    "number": ("a number", "number"),
    "boolean": ("a boolean", "boolean", "true or false"),
    "Date": ("a date", "date"),
    "string[]": ("a list of strings", "string list"),
    "number[]": ("a list of numbers", "number list"),
}
ASKS = Wording(
    (
        "Write a TypeScript interface {name} with {fields}",
        "Create a TypeScript interface called {name} with {fields}",
        "TypeScript interface {name}: {fields}",
        "Define {name} in TypeScript with {fields}",
        "Make an interface {name} in TypeScript that has {fields}",
        "I need a TypeScript interface for {name} with {fields}",
    ),
    (
        "Give me the TypeScript interface named {name} containing {fields}",
        "In TypeScript, declare an interface {name} with {fields}",
        "Generate a TypeScript interface {name} having {fields}",
        "Can you write an interface {name} in TypeScript with {fields}",
        "TypeScript: interface {name} with {fields}",
    ),
)
FIELDS = Wording(
    ("{field} as {said}", "{field} ({said})", "{said} {field}", "{field}: {said}"),
    ("{field} of type {said}", "{field} - {said}", "a field {field} ({said})"),
)


def draw(words: Words) -> Example:
    name = words.label()
    fields = words.distinct(words.plain, words.pick(1, 2, 2, 3, 3, 4))
    lines, said, loose = [], [], []
    form = words.form(FIELDS)
    for field in fields:
        kind = words.pick("string", "string", "number", "number", *TYPES)
        optional = words.chance(0.15)
        phrase = words.pick(*TYPES[kind])
        if form in ("{said} {field}",):
            phrase = phrase.removeprefix("a ")
        said.append(("optional " if optional else "") + form.format(field=field, said=phrase))
        lines.append(f"  {field}{'?' if optional else ''}: {kind};")
        loose.append(f"{field} is {kind}" + (" or absent" if optional else ""))
    prompt = words.say(ASKS, name=name, fields=listed(said)) + words.pick(".", "")
    answer = f"interface {name} {{\n" + "\n".join(lines) + "\n}"
    return Example(prompt, answer, (f"{name} has " + ", ".join(loose),))
