"""Regular expressions in the common part of ECMA-262 and Python, to trees and to GBNF.

Characters, escapes, classes, groups, alternation, greedy and lazy quantifiers (the language is the same) and the
anchors `^` and `$` at any place. `\\d`, `\\w` and `\\s` are ECMA-262's. Back-references, lookaround, word
boundaries, flags and Unicode properties are refused with their position. Called by the compiler for a `regex`
request, and by `json_schema` for `pattern`.
"""

from functools import lru_cache
from typing import Final

from grammars.automaton import Language, automaton
from grammars.automaton_rules import write
from grammars.errors import AutomatonTooLarge, RegexUnsupported
from grammars.regex_tree import Chars, Choice, Concat, End, Node, Repeat, Start
from grammars.rules import GrammarTooLarge, Rules
from grammars.spelling import FIRST_SURROGATE, LAST_SURROGATE, MAX_POINT, Ranges, char_class, complement, union

MAX_PATTERN: Final = 4_096  # characters
MAX_NESTING: Final = 64
MAX_REPEAT: Final = 2_000

_DIGITS: Final[Ranges] = ((0x30, 0x39),)
_WORD: Final[Ranges] = union([(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)])
_SPACES: Final = [(0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029)]
_MORE_SPACES: Final = [(0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)]
_SPACE: Final[Ranges] = union([*_SPACES, *_MORE_SPACES])
_LINE_ENDS: Final[Ranges] = ((0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029))
_SETS: Final = {
    "d": _DIGITS,
    "D": complement(_DIGITS),
    "w": _WORD,
    "W": complement(_WORD),
    "s": _SPACE,
    "S": complement(_SPACE),
}
_CONTROLS: Final = {"n": 0x0A, "t": 0x09, "r": 0x0D, "f": 0x0C, "v": 0x0B, "0": 0x00}
_REFUSED_ESCAPES: Final = {
    "b": "word boundaries",
    "B": "word boundaries",
    "p": "Unicode properties",
    "P": "Unicode properties",
    "k": "back-references",
} | dict.fromkeys("123456789", "back-references")
_REFUSED_GROUPS: Final = {"=": "lookahead", "!": "lookahead", "<=": "lookbehind", "<!": "lookbehind"}


def to_gbnf(pattern: str) -> str:
    """A grammar of the texts that the pattern matches as a whole. Raises RegexUnsupported."""
    try:
        rules = Rules()
        accepted = automaton(Language(whole=(parse(pattern),)))
        if accepted.is_empty:
            raise RegexUnsupported("no text matches it", 0)
        start = write(accepted, rules, "text", lambda ranges: (char_class(ranges),), "")
        return rules.render(rules.add("root", (start,)))
    except (AutomatonTooLarge, GrammarTooLarge) as large:
        raise RegexUnsupported(large.reason, 0) from large


@lru_cache(maxsize=256)
def parse(pattern: str) -> Node:
    """The tree of a pattern. Raises RegexUnsupported."""
    if len(pattern) > MAX_PATTERN:
        raise RegexUnsupported(f"it has {len(pattern):,} characters; the limit is {MAX_PATTERN:,}", MAX_PATTERN)
    return _Parser(pattern).whole()


class _Parser:
    """Recursive descent; `at` is the next character's index."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.depth = 0

    def whole(self) -> Node:
        node = self._choice()
        if self.at < len(self.pattern):
            raise self._fault("a closing parenthesis without its opening one")
        return node

    def _fault(self, reason: str) -> RegexUnsupported:
        return RegexUnsupported(reason, self.at)

    def _takes(self, text: str) -> bool:
        if not self.pattern.startswith(text, self.at):
            return False
        self.at += len(text)
        return True

    def _next(self, what: str) -> str:
        if self.at >= len(self.pattern):
            raise self._fault(f"it ends where {what} was expected")
        self.at += 1
        return self.pattern[self.at - 1]

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._takes("|"):
            options.append(self._sequence())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _sequence(self) -> Node:
        parts: list[Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            parts.append(self._quantified())
        return parts[0] if len(parts) == 1 else Concat(tuple(parts))

    def _quantified(self) -> Node:
        atom = self._atom()
        bounds = self._bounds()
        if bounds is None:
            return atom
        if isinstance(atom, Start | End):
            raise self._fault("a quantifier after an anchor")
        self._takes("?")
        if self._bounds() is not None:
            raise self._fault("a quantifier after a quantifier")
        return Repeat(atom, *bounds)

    def _bounds(self) -> tuple[int, int | None] | None:
        """The quantifier that stands here, if any does; a brace that begins none is a character."""
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._takes(sign):
                return bounds
        if not self.pattern.startswith("{", self.at):
            return None
        end = self.pattern.find("}", self.at)
        low, comma, high = self.pattern[self.at + 1 : max(end, self.at)].partition(",")
        if not _is_number(low) or not (_is_number(high) or high == ""):
            return None
        first, last = int(low), (int(high) if high else None if comma else int(low))
        if first > MAX_REPEAT or (last or 0) > MAX_REPEAT:
            raise self._fault(f"a repetition beyond {MAX_REPEAT:,}")
        if last is not None and last < first:
            raise self._fault(f"a repetition from {first} to {last}")
        self.at = end + 1
        return first, last

    def _atom(self) -> Node:
        if self._bounds_ahead():
            raise self._fault("a quantifier with nothing before it")
        character = self._next("an expression")
        match character:
            case "^":
                return Start()
            case "$":
                return End()
            case ".":
                return Chars(complement(_LINE_ENDS))
            case "(":
                return self._group()
            case "[":
                return Chars(self._class())
            case "\\":
                return Chars(self._escape(in_class=False))
        return Chars(self._point(character))

    def _bounds_ahead(self) -> bool:
        at, found = self.at, self._bounds() is not None
        self.at = at
        return found

    def _point(self, character: str) -> Ranges:
        point = ord(character)
        if FIRST_SURROGATE <= point <= LAST_SURROGATE:
            raise self._fault(f"a lone surrogate U+{point:04X}")
        return ((point, point),)

    def _group(self) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self._fault(f"groups nested deeper than {MAX_NESTING}")
        if self._takes("?"):
            self._group_kind()
        node = self._choice()
        if not self._takes(")"):
            raise self._fault("a group without its closing parenthesis")
        self.depth -= 1
        return node

    def _group_kind(self) -> None:
        for sign, name in _REFUSED_GROUPS.items():
            if self.pattern.startswith(sign, self.at):
                raise self._fault(f"{name} is not supported")
        if self._takes(":"):
            return
        if not (self._takes("P<") or self._takes("<")):
            raise self._fault("flags and special groups are not supported")
        end = self.pattern.find(">", self.at)
        if not self.pattern[self.at : max(end, self.at)].isidentifier():
            raise self._fault("a group's name is broken")
        self.at = end + 1

    def _class(self) -> Ranges:
        is_negated = self._takes("^")
        ranges: list[tuple[int, int]] = []
        while not self._takes("]"):
            first = self._member()
            is_span = self.pattern.startswith("-", self.at) and not self.pattern.startswith("-]", self.at)
            if is_span and self._takes("-"):
                last = self._member()
                if len(first + last) != 2 or first[0][0] != first[0][1] or last[0][0] != last[0][1]:
                    raise self._fault("a range whose end is a set")
                if last[0][0] < first[0][0]:
                    raise self._fault("a range that runs backwards")
                first = ((first[0][0], last[0][0]),)
            ranges.extend(first)
        # Ranges may span the surrogates, which no text has.
        return complement(union(ranges)) if is_negated else complement(complement(union(ranges)))

    def _member(self) -> Ranges:
        character = self._next("a class's closing bracket")
        return self._escape(in_class=True) if character == "\\" else self._point(character)

    def _escape(self, in_class: bool) -> Ranges:
        letter = self._next("an escaped character")
        if letter in _SETS:
            return _SETS[letter]
        if letter == "b" and in_class:
            return ((0x08, 0x08),)
        if letter in _REFUSED_ESCAPES:
            raise self._fault(f"{_REFUSED_ESCAPES[letter]} (\\{letter}) are not supported")
        if letter == "0" and self.pattern[self.at : self.at + 1].isdigit():
            raise self._fault("octal escapes are not supported")
        if letter in _CONTROLS:
            return ((_CONTROLS[letter],) * 2,)
        if letter == "c":
            control = self._next("a control letter")
            if not (control.isascii() and control.isalpha()):
                raise self._fault(f"no control character is called {control!r}")
            return ((ord(control) % 32,) * 2,)
        if letter in "xu":
            return ((self._hex(letter),) * 2,)
        if letter.isalnum() or letter == "_":
            raise self._fault(f"the escape \\{letter} is not supported")
        return self._point(letter)

    def _hex(self, letter: str) -> int:
        """The code point of `\\xHH`, `\\uHHHH`, a pair of surrogates so written, or `\\u{H...}`."""
        if letter == "u" and self._takes("{"):
            end = self.pattern.find("}", self.at)
            point = self._digits(max(end, self.at) - self.at)
            self.at += 1
        else:
            point = self._digits(2 if letter == "x" else 4)
        if FIRST_SURROGATE <= point < 0xDC00 and self._takes("\\u"):
            low = self._digits(4)
            if not 0xDC00 <= low <= LAST_SURROGATE:
                raise self._fault("a lone surrogate")
            return 0x10000 + ((point - FIRST_SURROGATE) << 10) + low - 0xDC00
        if FIRST_SURROGATE <= point <= LAST_SURROGATE or point > MAX_POINT:
            raise self._fault(f"no character has the code point {point:X}")
        return point

    def _digits(self, count: int) -> int:
        digits = self.pattern[self.at : self.at + count]
        if not 1 <= len(digits) == count <= 8 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise self._fault("a broken hexadecimal escape")
        self.at += count
        return int(digits, 16)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9
