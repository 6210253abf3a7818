"""Reads llama.cpp's GBNF dialect into a syntax tree, or says at which line and column it is none.

Knows no vocabulary and judges no meaning: `admission` does. Keeps its own stack, so that no text overflows
Python's, and looks at every character once. It is never more lenient than llama.cpp, and stricter where llama.cpp
reads something else than what is written: a repetition above 2,000 becomes an unbounded one, `{3,2}` never ends,
an empty class matches the empty text, the second definition of a rule replaces the first, a reversed range and a
code point beyond Unicode match nothing.
"""

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Final, NoReturn

from grammars.errors import GrammarInvalid
from grammars.syntax import (
    MAX_CODE_POINT,
    AnyChar,
    CharClass,
    Grammar,
    Group,
    Item,
    Literal,
    Place,
    Reference,
    Repeat,
    Rule,
    Sequence,
    Token,
)

MAX_BYTES: Final = 32 * 1024
MAX_NESTING: Final = 64
MAX_DEPTH: Final = 128  # of parentheses and repetitions together; `a????...` nests as well
MAX_RULES: Final = 2_000
MAX_REPETITIONS: Final = 2_000  # llama.cpp's own limit

_BLANK: Final = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME: Final = re.compile(r"[A-Za-z0-9-]+")
_DIGITS: Final = re.compile(r"[0-9]+")
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_PLAIN: Final = re.compile(r'[^"\\]+')
_ESCAPED: Final = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX: Final = {size: re.compile(f"[0-9A-Fa-f]{{{size}}}") for size in (2, 4, 8)}
_HEX_SIZES: Final = {"x": 2, "u": 4, "U": 8}
_QUANTIFIERS: Final = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def parse(text: str, max_bytes: int = MAX_BYTES) -> Grammar:
    """Raises GrammarInvalid with the first fault's line and column, in time that is linear in the text."""
    check_text(text, max_bytes)
    return _Parser(text).grammar()


def check_text(text: str, max_bytes: int) -> None:
    """Raises GrammarInvalid for what is too long, or no text that llama.cpp could be given."""
    if len(text) > max_bytes:  # each character takes a byte at least
        raise GrammarInvalid(f"it has {len(text):,} characters; the limit is {max_bytes:,} bytes")
    for fault, pattern in (("a NUL character", "\0"), ("a lone surrogate", "[\ud800-\udfff]")):
        if found := re.search(pattern, text):
            raise GrammarInvalid(f"it contains {fault}", *_place(text, found.start()))
    if (size := len(text.encode())) > max_bytes:
        raise GrammarInvalid(f"it has {size:,} bytes; the limit is {max_bytes:,}")


def _place(text: str, offset: int) -> Place:
    ends = [found.end() for found in _LINE_END.finditer(text, 0, offset)]
    return Place(len(ends) + 1, offset - (ends[-1] if ends else 0) + 1)


@dataclass(slots=True)
class _Level:
    """Alternatives that are being read: a rule's, or those of an open parenthesis at `start`."""

    start: int
    num_symbols: int
    done: list[Sequence] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    weight: int = 1  # of the last item: by how many rules llama.cpp counts it when it is repeated
    can_repeat: bool = False
    item_depth: int = 0  # of the last item
    depth: int = 0  # of the deepest


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_starts = [0, *(found.end() for found in _LINE_END.finditer(text))]
        self._names: set[str] = set()
        self._num_made = 0  # rules that llama.cpp makes up for groups and repetitions

    def grammar(self) -> Grammar:
        rules: dict[str, Rule] = {}
        self._skip(_SPACE)
        while self._at < len(self._text):
            rule = self._rule()
            if rule.name in rules:
                first = rules[rule.name].place
                reason = f"rule {rule.name!r} is defined again; its first definition is in line {first.line}"
                raise GrammarInvalid(reason, *rule.place)
            if len(rules) == MAX_RULES:
                raise GrammarInvalid(f"it has more than {MAX_RULES:,} rules, the limit", *rule.place)
            rules[rule.name] = rule
        if not rules:
            raise GrammarInvalid("it has no rules")
        return Grammar(rules)

    def _rule(self) -> Rule:
        place = self._place(self._at)
        if not (found := _NAME.match(self._text, self._at)):
            self._fail("expected a rule's name (letters, digits and hyphens)")
        name = found.group()
        self._names.add(name)
        self._at = found.end()
        self._skip(_BLANK)
        if not self._text.startswith("::=", self._at):
            self._fail(f"expected '::=' after the rule's name {name[:64]!r}")
        self._at += 3
        self._skip(_SPACE)
        alternatives = tuple(self._body())
        if self._at < len(self._text):
            if self._peek() not in "\r\n":
                self._fail("expected an item, '|' or the end of the line")
            self._skip(_SPACE)
        return Rule(name, alternatives, place)

    def _body(self) -> list[Sequence]:
        """A rule's alternatives, to the end of its line."""
        levels = [_Level(self._at, self._num_symbols)]
        while True:
            level, sign = levels[-1], self._peek()
            if sign == "(":
                if len(levels) > MAX_NESTING:
                    self._fail(f"more than {MAX_NESTING} nested parentheses, the limit")
                levels.append(_Level(self._at, self._num_symbols))
                self._num_made += 1
                self._next(_SPACE)
            elif sign == "|":
                level.done.append(tuple(level.items))
                level.items, level.can_repeat = [], False
                self._next(_SPACE)
            elif sign == ")" and len(levels) > 1:
                self._close(levels)
            elif sign and sign in "*+?{":
                self._repeat(level, is_nested=len(levels) > 1)
            elif not self._item(level):
                break
            self._skip(_SPACE if len(levels) > 1 else _BLANK)
        if len(levels) > 1:
            opened = self._place(levels[-1].start)
            self._fail(f"expected an item, '|' or the ')' of line {opened.line}, column {opened.column}")
        return [*levels[0].done, tuple(levels[0].items)]

    def _close(self, levels: list[_Level]) -> None:
        self._at += 1
        inner = levels.pop()
        outer = levels[-1]
        outer.items.append(Group((*inner.done, tuple(inner.items))))
        outer.weight, outer.can_repeat = max(1, self._num_symbols - inner.num_symbols), True
        self._deepen(outer, inner.depth + 1, inner.start)

    def _deepen(self, level: _Level, item_depth: int, at: int) -> None:
        if item_depth > MAX_DEPTH:
            self._fail(f"parentheses and repetitions are nested more than {MAX_DEPTH} deep, the limit", at)
        level.item_depth, level.depth = item_depth, max(level.depth, item_depth)

    def _item(self, level: _Level) -> bool:
        """Read a literal, a class, a token, a reference or a dot; False where none begins."""
        sign = self._peek()
        item: Item
        if sign == '"':
            item = self._literal()
        elif sign == "[":
            item = self._class()
        elif sign and sign in "<!":
            item = self._token()
        elif sign == ".":
            item = AnyChar()
            self._at += 1
        elif found := _NAME.match(self._text, self._at):
            item = Reference(found.group(), self._place(self._at))
            self._names.add(item.name)
            self._at = found.end()
        else:
            return False
        level.items.append(item)
        level.weight, level.can_repeat, level.item_depth = 1, item != Literal(""), 0
        return True

    def _literal(self) -> Literal:
        opened = self._at
        self._at += 1
        parts: list[str] = []
        while (sign := self._peek()) != '"':
            if not sign:
                self._fail("the literal has no closing '\"'", opened)
            if found := _PLAIN.match(self._text, self._at):
                parts.append(found.group())
                self._at = found.end()
            else:
                at = self._at
                parts.append(chr(self._escape()))
                if "\ud800" <= parts[-1] <= "\udfff":
                    self._fail(f"the literal holds the lone surrogate U+{ord(parts[-1]):04X}", at)
        self._at += 1
        return Literal("".join(parts))

    def _class(self) -> CharClass:
        opened = self._at
        self._at += 1
        if is_negated := self._peek() == "^":
            self._at += 1
        ranges: list[tuple[int, int]] = []
        while self._peek() != "]":
            at = self._at
            low = high = self._class_char(opened)
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._class_char(opened)
            if high < low:
                self._fail(f"the range from U+{low:04X} to U+{high:04X} is reversed", at)
            ranges.append((low, high))
        self._at += 1
        if not ranges:
            self._fail("the class is empty; llama.cpp would read it as the empty text", opened)
        return CharClass(tuple(ranges), is_negated)

    def _class_char(self, opened: int) -> int:
        sign = self._peek()
        if not sign:
            self._fail("the class has no closing ']'", opened)
        if sign == "\\":
            return self._escape()
        self._at += 1
        return ord(sign)

    def _escape(self) -> int:
        at, kind = self._at, self._text[self._at + 1 : self._at + 2]
        if plain := _ESCAPED.get(kind):
            self._at += 2
            return ord(plain)
        if not (size := _HEX_SIZES.get(kind)):
            self._fail('unknown escape; known are \\x \\u \\U \\t \\r \\n \\\\ \\" \\[ \\] \\-', at)
        if not (found := _HEX[size].match(self._text, at + 2)):
            self._fail(f"\\{kind} takes {size} hexadecimal digits", at)
        if (value := int(found.group(), 16)) > MAX_CODE_POINT:
            self._fail(f"U+{value:X} is beyond Unicode, which ends at U+10FFFF", at)
        self._at = found.end()
        return value

    def _token(self) -> Token:
        opened, place = self._at, self._place(self._at)
        is_negated = self._peek() == "!"
        start = opened + is_negated
        end = self._text.find(">", start)
        if not self._text.startswith("<", start) or end < 0:
            self._fail("expected a token, as <text> or <[id]>", opened)
        text = self._text[start : end + 1]
        self._at = end + 1
        if not text.startswith("<["):
            return Token(None, text, is_negated, place)
        digits = text[2:-2]
        if not (_DIGITS.fullmatch(digits) and text.endswith("]>")):
            self._fail("expected a token's number, as <[id]>", opened)
        if len(digits) > 9:
            self._fail("the token's number has more than nine digits", opened)
        return Token(int(digits), None, is_negated, place)

    def _repeat(self, level: _Level, is_nested: bool) -> None:
        at, sign = self._at, self._peek()
        if not level.can_repeat:
            self._fail(f"there is nothing that {sign!r} could repeat")
        if sign == "{":
            least, most = self._counts(_SPACE if is_nested else _BLANK)
        else:
            least, most = _QUANTIFIERS[sign]
            self._at += 1
        if most is not None and most < least:
            self._fail(f"a repetition of at least {least} and at most {most} times", at)
        self._weigh(level, least, most, at)
        level.items[-1] = Repeat(level.items[-1], least, most, self._place(at))
        level.can_repeat = most != 0
        self._deepen(level, level.item_depth + 1, at)

    def _weigh(self, level: _Level, least: int, most: int | None, at: int) -> None:
        """Count the rules as llama.cpp does, which refuses more than 2,000 of them under nested repetitions."""
        level.weight *= most or least or 1
        self._num_made += 1 if most is None else most - least
        if level.weight > MAX_REPETITIONS:
            reason = "repetitions and the rules inside them multiply to"
            self._fail(f"{reason} {level.weight:,}; llama.cpp's limit is {MAX_REPETITIONS:,}", at)

    def _counts(self, skipped: re.Pattern[str]) -> tuple[int, int | None]:
        """What stands in braces: {m}, {m,} or {m,n}."""
        self._next(skipped)
        least = self._number()
        most: int | None = least
        self._skip(skipped)
        if self._peek() == ",":
            self._next(skipped)
            most = self._number() if self._peek().isdigit() else None
            self._skip(skipped)
        if self._peek() != "}":
            self._fail("expected '}', as in {m}, {m,} or {m,n}")
        self._at += 1
        return least, most

    def _number(self) -> int:
        if not (found := _DIGITS.match(self._text, self._at)):
            self._fail("expected a number of repetitions")
        digits = found.group().lstrip("0") or "0"
        if len(digits) > 4 or int(digits) > MAX_REPETITIONS:
            self._fail(f"{digits[:20]} repetitions; the limit is {MAX_REPETITIONS:,}")
        self._at = found.end()
        return int(digits)

    @property
    def _num_symbols(self) -> int:
        return len(self._names) + self._num_made

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        if self._peek() in " \t\r\n#":  # a needless match takes four times as long
            found = pattern.match(self._text, self._at)
            self._at = found.end() if found else self._at

    def _next(self, pattern: re.Pattern[str]) -> None:
        self._at += 1
        self._skip(pattern)

    def _place(self, offset: int) -> Place:
        line = bisect_right(self._line_starts, offset)
        return Place(line, offset - self._line_starts[line - 1] + 1)

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        raise GrammarInvalid(reason, *self._place(self._at if at is None else at))
