"""TypeScript: one interface from its name and its fields."""

from training.tasks.example import Example, listed
from training.words import Words

TYPES = {
    "string": ("a string", "string", "text"),
    "number": ("a number", "number"),
    "boolean": ("a boolean", "boolean", "true or false"),
    "Date": ("a date", "date"),
    "string[]": ("a list of strings", "string list"),
    "number[]": ("a list of numbers", "number list"),
}
ASKS = (
    "Write a TypeScript interface {name} with {fields}",
    "Create a TypeScript interface called {name} with {fields}",
    "TypeScript interface {name}: {fields}",
    "Define {name} in TypeScript with {fields}",
    "Make an interface {name} in TypeScript that has {fields}",
    "I need a TypeScript interface for {name} with {fields}",
)


def draw(words: Words) -> Example:
    name = words.label()
    fields = words.distinct(words.plain, words.pick(1, 2, 2, 3, 3, 4))
    lines, said, loose = [], [], []
    form = words.pick("{field} as {said}", "{field} ({said})", "{said} {field}", "{field}: {said}")
    for field in fields:
        kind = words.pick("string", "string", "number", "number", *TYPES)
        optional = words.chance(0.15)
        phrase = words.pick(*TYPES[kind])
        if form in ("{said} {field}",):
            phrase = phrase.removeprefix("a ")
        said.append(("optional " if optional else "") + form.format(field=field, said=phrase))
        lines.append(f"  {field}{'?' if optional else ''}: {kind};")
        loose.append(f"{field} is {kind}" + (" or absent" if optional else ""))
    prompt = words.pick(*ASKS).format(name=name, fields=listed(said)) + words.pick(".", "")
    answer = f"interface {name} {{\n" + "\n".join(lines) + "\n}"
    return Example(prompt, answer, (f"{name} has " + ", ".join(loose),))
