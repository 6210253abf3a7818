"""Units: metric conversions that move a decimal point."""

from training.tasks.example import Example
from training.words import Words

# from, to, power of ten
CONVERSIONS = (
    ("km", "m", 3), ("m", "cm", 2), ("cm", "mm", 1), ("kg", "g", 3), ("l", "ml", 3), ("m", "mm", 3),
    ("t", "kg", 3), ("g", "mg", 3), ("kW", "W", 3), ("hl", "l", 2), ("dm", "cm", 1), ("km", "dm", 4),
)  # fmt: skip
ASKS = (
    "Convert {n} {a} to {b}",
    "How many {b} are {n} {a}?",
    "{n} {a} in {b}",
    "What is {n} {a} in {b}?",
    "Change {n} {a} to {b}",
)


def draw(words: Words) -> Example:
    source, target, power = words.pick(*CONVERSIONS)
    whole, decimals = words.number(1, 99), words.pick("", "", "5", str(words.number(1, 9)))
    shown = f"{whole}.{decimals}" if decimals else str(whole)
    result = int(f"{whole}{decimals}" + "0" * (power - len(decimals)))
    prompt = words.pick(*ASKS).format(n=shown, a=source, b=target)
    return Example(prompt, f"{result} {target}", (f"it makes {result} of {target}",))
