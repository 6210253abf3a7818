"""Units: metric conversions that move a decimal point."""

from training.tasks.example import Example
from training.words import Wording, Words

# from, to, power of ten
CONVERSIONS = (
    ("km", "m", 3), ("m", "cm", 2), ("cm", "mm", 1), ("kg", "g", 3), ("l", "ml", 3), ("m", "mm", 3),
    ("t", "kg", 3), ("g", "mg", 3), ("kW", "W", 3), ("hl", "l", 2), ("dm", "cm", 1), ("km", "dm", 4),
)  # fmt: skip
ASKS = Wording(
    (
        "Convert {n} {a} to {b}",
        "How many {b} are {n} {a}?",
        "{n} {a} in {b}",
        "What is {n} {a} in {b}?",
        "Change {n} {a} to {b}",
    ),
    (
        "Please convert {n} {a} into {b}.",
        "How much is {n} {a} in {b}?",
        "How many {b} are there in {n} {a}?",
        "Express {n} {a} in {b}",
        "I have {n} {a}. What is that in {b}?",
    ),
)


def draw_amount(words: Words) -> tuple[str, str]:
    """The digits before and after the point."""
    return str(words.number(1, 999 if words.chance(0.5) else 99)), words.pick("", "", "5", str(words.number(1, 9)))


def draw(words: Words) -> Example:
    source, target, power = words.pick(*CONVERSIONS)
    whole, decimals = words.combination(lambda: draw_amount(words), ".".join)
    shown = f"{whole}.{decimals}" if decimals else whole
    result = int(f"{whole}{decimals}" + "0" * (power - len(decimals)))
    prompt = words.say(ASKS, n=shown, a=source, b=target)
    return Example(prompt, f"{result} {target}", (f"it makes {result} of {target}",))
