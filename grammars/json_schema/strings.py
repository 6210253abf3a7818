"""Strings and names of properties as GBNF.

A string without pattern may use every escape of JSON. Where characters are told apart, each is written in one way
only: raw, or by its short escape; else an escaped `a` would pass where `a` is excluded. Called by `convert` and
`objects`.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from grammars import prefix_tree
from grammars.automaton import Automaton, Language, automaton
from grammars.automaton_rules import Spell, write
from grammars.errors import AutomatonTooLarge, SchemaUnsupported
from grammars.json_schema import formats
from grammars.json_schema.children import has
from grammars.json_schema.document import Place
from grammars.leap_seconds import leap_second_block
from grammars.regex_tree import any_of
from grammars.rules import Alternative, Ref, Rules
from grammars.spelling import ANY, Ranges, char_class, in_json, literal, minus

MAX_STEPS: Final = 100_000  # of all automata of one document
MAX_LENGTH: Final = 2_000  # llama.cpp's limit of a repetition
QUOTE: Final = '"\\""'

_RAW: Final[Ranges] = minus(ANY, ((0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)))
_HEX: Final = "[0-9A-Fa-f]"
_UNIT: Final = (
    f"[0-9A-CE-Fa-ce-f] {_HEX} {_HEX} {_HEX} | [Dd] ([0-7] {_HEX} {_HEX} "
    f'| [89ABab] {_HEX} {_HEX} "\\\\u" [Dd] [C-Fc-f] {_HEX} {_HEX})'
)
# One escape for what can not stand raw.
_SHORT: Final = '"\\\\" ["\\\\bfnrt] | "\\\\u00" ("0" [0-7BEFbef] | "1" [0-9A-Fa-f])'


class Strings:
    """Writes into one set of rules; equal languages share theirs."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._made: dict[Hashable, Ref] = {}
        self.num_steps = 0  # what the automata have cost

    def text(self, language: Language, place: Place | None) -> Ref:
        """A whole string, quotes included."""
        return self._string("string", language, place, QUOTE)

    def name(self, language: Language, taken: Sequence[str], place: Place | None) -> Ref:
        """A property's name other than those taken, with its colon."""
        end = literal('": ')
        if not taken:
            return self._string("name", language, place, end)
        if language != Language():
            return self._string("name", language.also(Language(not_whole=(any_of(taken),))), place, end)
        start = self._rules.reserve("name")
        self._rules.define(start, (QUOTE, self._other_than("", sorted(taken), end)))
        return start

    def number(self, language: Language, place: Place | None) -> Ref:
        return self._once(("number", language), lambda: self._automaton("number", language, place, _plain, ""))

    def one_of(self, texts: Sequence[str], stem: str) -> Ref:
        """One of some texts, as a tree of their common beginnings."""
        return prefix_tree.write(self._rules, self._rules.reserve(stem), texts)

    def _string(self, stem: str, language: Language, place: Place | None, end: str) -> Ref:
        longest = max(language.min_length, language.max_length or 0)
        if longest > MAX_LENGTH:
            keyword = "minLength" if language.min_length > MAX_LENGTH else "maxLength"
            reason = f"{longest:,} characters; the limit is {MAX_LENGTH:,}"
            raise SchemaUnsupported(keyword, place.pointer if place else "#", reason)
        leap = formats.leap_name(language)
        if leap:
            return self._once((stem, language), lambda: self._leap(stem, leap, language.max_length, end))
        if not language.is_free:
            return self._once((stem, language), lambda: self._quoted(stem, language, place, end))
        return self._once((stem, language), lambda: self._free(stem, language, end))

    def _free(self, stem: str, language: Language, end: str) -> Ref:
        if language.max_length == 0:
            return self._rules.add(stem, (QUOTE, end))
        return self._rules.add(stem, (QUOTE, self._char(language.min_length, language.max_length), end))

    def _leap(self, stem: str, name: str, max_length: int | None, end: str) -> Ref:
        places = None if max_length is None else max_length - formats.LEAP_LENGTHS[name] - 1
        day = (self._once("day", self._day),) if name == "date-time" else ()
        tree = self._once(("leap", places), lambda: self._rules.block(*leap_second_block(places)))
        return self._rules.add(stem, (QUOTE, *day, tree, end))

    def _day(self) -> Ref:
        return write(automaton(formats.DAY), self._rules, "day", _plain, "")

    def _char(self, low: int, high: int | None) -> Ref:
        unit = f'"\\\\" (["\\\\/bfnrt] | "u" ({_UNIT}))'
        return Ref(self._once("char", lambda: self._rules.add("char", (char_class(_RAW),), (unit,))).name, low, high)

    def _quoted(self, stem: str, language: Language, place: Place | None, end: str) -> Ref:
        return self._rules.add(stem, (QUOTE, self._automaton(f"{stem}-at", language, place, in_json, end)))

    def _automaton(self, stem: str, language: Language, place: Place | None, spell: Spell, end: str) -> Ref:
        built = self._built(language, place)
        # A rule without alternatives: what needs it drops out of the finished grammar.
        return self._rules.reserve(stem) if built.is_empty else write(built, self._rules, stem, spell, end)

    def _built(self, language: Language, place: Place | None) -> Automaton:
        try:
            built = automaton(language)
        except AutomatonTooLarge as large:
            raise SchemaUnsupported(_keyword(place), place.pointer if place else "#", large.reason) from large
        self.num_steps += built.num_steps
        if self.num_steps > MAX_STEPS:
            reason = f"the document's patterns and ranges take more than {MAX_STEPS:,} steps"
            raise SchemaUnsupported(_keyword(place), place.pointer if place else "#", reason)
        return built

    def _other_than(self, prefix: str, taken: Sequence[str], end: str) -> Ref:
        """The rest of a name that has begun like the taken ones; as soon as it differs, everything may follow."""
        rest = self._rest(end)
        start = self._rules.reserve("name-at")
        waiting = [(start, prefix, list(taken))]
        while waiting:
            ref, prefix, group = waiting.pop()
            options: list[Alternative] = [] if prefix in group else [(end,)]
            points = sorted({ord(name[len(prefix)]) for name in group if len(name) > len(prefix)})
            for point in points:
                child = self._rules.reserve("name-at")
                longer = prefix + chr(point)
                waiting.append((child, longer, [name for name in group if name.startswith(longer)]))
                options.extend((spelled, child) for spelled in in_json(((point, point),)))
            others = minus(ANY, tuple((point, point) for point in points))
            is_plain = all(minus(((point, point),), _RAW) == () for point in points)
            others_spelled: list[Alternative] = [(spelled,) for spelled in in_json(others)]
            if is_plain:  # all escapes at once
                others_spelled = [(char_class(minus(others, minus(ANY, _RAW))),), (self._escape(),)]
            options.extend((*spelled, rest) for spelled in others_spelled)
            self._rules.define(ref, *options)
        return start

    def _escape(self) -> Ref:
        return self._once("escape", lambda: self._rules.add("escape", (_SHORT,)))

    def _rest(self, end: str) -> Ref:
        return self._once("name-rest", lambda: self._rules.add("name-rest", (self._char(0, None), end)))

    def _once(self, key: Hashable, make: Callable[[], Ref]) -> Ref:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _plain(ranges: Ranges) -> tuple[str, ...]:
    return (char_class(ranges),)


def _keyword(place: Place | None) -> str:
    """Which of a schema's keywords made an automaton necessary."""
    names = ("pattern", "patternProperties", "format", "multipleOf", "minimum", "maximum", "maxLength")
    return next((name for name in names if place and has(place, name)), "pattern")
