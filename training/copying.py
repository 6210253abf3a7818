"""The copy curriculum: repeat, look up, quote and find, over words of every kind. Copying carries every task."""

from training.tasks.example import Example
from training.words import Words


def draw_word(words: Words) -> str:
    kind = words.rng.random()
    if kind < 0.55:
        return words.plain()
    if kind < 0.7:
        return words.first_name()
    if kind < 0.85:
        return words.relation() if words.chance(0.4) else words.label()
    return str(words.number(0, 9999))


def draw(words: Words) -> Example:
    """One exercise; it has a single answer."""
    items = words.distinct(lambda: draw_word(words), words.rng.randint(2, 8))
    values = words.distinct(lambda: draw_word(words), len(items))
    at = words.rng.randrange(len(items))
    joined = words.pick(" ", ", ", "\n", "; ").join(items)
    kind = words.rng.random()
    if kind < 0.25:
        ask, answer = words.pick("Repeat", "Copy this", "Say again", "Write the same"), joined
        prompt = f"{ask}: {joined}"
    elif kind < 0.55:
        sign = words.pick(": ", " = ", " is ", " -> ")
        pairs = words.pick("\n", ", ", "; ").join(f"{a}{sign}{b}" for a, b in zip(items, values, strict=True))
        ask = words.pick(f"What is {items[at]}?", f"Look up {items[at]}", f"Give the value of {items[at]}")
        prompt, answer = words.pick(f"{pairs}\n{ask}", f"{ask}\n{pairs}"), values[at]
    elif kind < 0.7:
        at = max(at, 1)
        ask = words.pick(f"What follows {items[at - 1]}?", f"Which word comes after {items[at - 1]}?")
        prompt, answer = f"{joined}\n{ask}", items[at]
    elif kind < 0.85:
        quote = words.pick('"', "'", "`")
        prompt = f"{words.pick('Quote each', 'Put quotes around')} ({quote}): {joined}"
        answer = ", ".join(f"{quote}{item}{quote}" for item in items)
    elif kind < 0.93:
        prompt, answer = (
            f"{words.pick('List these', 'One per line')}: {joined}",
            "\n".join(f"- {item}" for item in items),
        )
    else:
        prompt, answer = f"Which is the {'last' if at else 'first'} word? {joined}", items[-1 if at else 0]
    return Example(prompt, answer, (answer,))


def draw_raw(words: Words) -> str:
    """Plain text in which a run of words comes back once or twice."""
    items = [draw_word(words) for _ in range(words.rng.randint(3, 10))]
    joiner = words.pick(" ", ", ", "\n", "_", ".", '", "', "/")
    return words.pick("\n", " | ", "\n\n").join([joiner.join(items)] * words.pick(2, 2, 3))
