"""A grammar under construction: named rules whose alternatives are GBNF text and references, and their printing.

Before it prints, it drops what can never be completed (a rule that needs itself, a value that no text has), so
that no sentence runs into a dead end. Knows nothing of schemas. Called by the converters of this room.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_RULES: Final = 20_000
MAX_BYTES: Final = 256 * 1024
MAX_REPEATED: Final = 40_000  # each repetition becomes a rule of llama.cpp's


@dataclass(frozen=True, slots=True)
class Ref:
    """One rule, or `low` to `high` of it in a row; a `high` of None has no end."""

    name: str
    low: int = 1
    high: int | None = 1

    @property
    def num_repeated(self) -> int:
        if (self.low, self.high) == (1, 1):
            return 0
        return self.low if self.high is None else self.high

    @property
    def gbnf(self) -> str:
        if (self.low, self.high) == (1, 1):
            return self.name
        return f"{self.name}{{{self.low},{'' if self.high is None else self.high}}}"


Item: TypeAlias = str | Ref  # a str is GBNF text without references
Alternative: TypeAlias = tuple[Item, ...]


class GrammarTooLarge(Exception):
    """The rules outgrew a limit; the converter that caught it says what of."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Rules:
    """Rules by name, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._rules: dict[str, list[Alternative]] = {}
        self._stems: dict[str, int] = {}
        self._blocks: dict[str, str] = {}

    def reserve(self, stem: str) -> Ref:
        """A new name beginning with the stem, without alternatives yet."""
        number = self._stems.get(stem, 0)
        name = f"{stem}-{number}" if number else stem
        while name in self._rules:  # another stem may end in a number
            number += 1
            name = f"{stem}-{number}"
        self._stems[stem] = number + 1
        self._rules[name] = []
        if len(self._rules) > MAX_RULES:
            raise GrammarTooLarge(f"the grammar needs more than {MAX_RULES:,} rules")
        return Ref(name)

    def define(self, ref: Ref, *alternatives: Alternative) -> Ref:
        """Adds alternatives to a reserved name; equal ones count once."""
        self._rules[ref.name] = list(dict.fromkeys((*self._rules[ref.name], *alternatives)))
        return ref

    def add(self, stem: str, *alternatives: Alternative) -> Ref:
        return self.define(self.reserve(stem), *alternatives)

    def block(self, name: str, gbnf: str) -> Ref:
        """Rules that are written already, the first one called `name`; no stem may begin any of their names."""
        self._rules[name] = [()]
        self._blocks[name] = gbnf
        return Ref(name)

    def render(self, root: Ref) -> str:
        """GBNF whose first rule is `root`; empty where no finite text matches the root. Raises GrammarTooLarge."""
        productive = self._productive()
        if root.name not in productive:
            return ""
        lines, seen, waiting, repeated = [], {root.name}, [root.name], 0
        while waiting:
            name = waiting.pop()
            if name in self._blocks:
                lines.append(self._blocks[name])
                continue
            options = [option for option in self._rules[name] if _is_complete(option, productive)]
            lines.append(f"{name} ::= {' | '.join(_print(option) for option in options)}\n")
            for item in (item for option in reversed(options) for item in reversed(option) if isinstance(item, Ref)):
                repeated += item.num_repeated
                if item.name not in seen:
                    seen.add(item.name)
                    waiting.append(item.name)
        if repeated > MAX_REPEATED:
            raise GrammarTooLarge(f"the grammar repeats {repeated:,} times; the limit is {MAX_REPEATED:,}")
        text = "".join(lines)
        if len(text.encode()) > MAX_BYTES:
            raise GrammarTooLarge(f"the grammar takes {len(text.encode()):,} bytes; the limit is {MAX_BYTES:,}")
        return text

    def _productive(self) -> set[str]:
        """The least fixed point, each rule looked at again only when one that it names has become productive."""
        users: dict[str, list[str]] = {}
        for name, options in self._rules.items():
            for item in (item for option in options for item in option):
                if isinstance(item, Ref):
                    users.setdefault(item.name, []).append(name)
        found: set[str] = set()
        waiting = list(self._rules)
        while waiting:
            name = waiting.pop()
            if name not in found and any(_is_complete(option, found) for option in self._rules[name]):
                found.add(name)
                waiting.extend(users.get(name, ()))
        return found


def _is_complete(option: Alternative, productive: set[str]) -> bool:
    return all(isinstance(item, str) or item.name in productive for item in option)


def _print(option: Alternative) -> str:
    """Items in a row, literals that meet made one."""
    merged: list[str] = []
    for text in (item if isinstance(item, str) else item.gbnf for item in option):
        if merged and _is_literal(text) and _is_literal(merged[-1]):
            merged[-1] = merged[-1][:-1] + text[1:]
        elif text:
            merged.append(text)
    return " ".join(merged)


def _is_literal(text: str) -> bool:
    """One literal and nothing else: its first closing quote is its last character."""
    if len(text) < 2 or not text.startswith('"'):
        return False
    position = 1
    while position < len(text) and text[position] != '"':
        position += 2 if text[position] == "\\" else 1
    return position == len(text) - 1
