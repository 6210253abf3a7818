"""The formats of strings as regular expressions, by the RFC that JSON Schema names for each.

One that is not here is refused by name, and so is `hostname`: whether an A-label (`xn--...`) is valid, Punycode
decides, and no automaton. Times are two languages: with a leap second away from the zero offset, and all the others.
Called by `texts`.
"""

from dataclasses import replace
from functools import cache
from typing import Final

from grammars.automaton import Language
from grammars.leap_seconds import ShiftedLeapSecond
from grammars.regex import parse

# On numbers these say a range; the ones of IGNORED say how a reader should store the value.
INTEGER_BITS: Final = {"int32": 32, "int64": 64}
IGNORED: Final = frozenset({"float", "double", "password"})

_LEAP_YEAR: Final = r"(\d\d(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
_DATE: Final = (
    r"(\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\d|3[01])|(0[469]|11)-(0[1-9]|[12]\d|30)|02-(0[1-9]|1\d|2[0-8]))"
    rf"|{_LEAP_YEAR}-02-29)"
)
_OFFSET: Final = r"([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)"
# A leap second here is one of the zero offset.
_TIME: Final = rf"(([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?{_OFFSET}|23:59:60(\.\d+)?([Zz]|[+-]00:00))"
_DURATION_TIME: Final = r"T(\d+H(\d+M(\d+S)?)?|\d+M(\d+S)?|\d+S)"
_DURATION_DATE: Final = r"(\d+Y(\d+M(\d+D)?)?|\d+M(\d+D)?|\d+D)"
_DURATION: Final = rf"P(\d+W|{_DURATION_DATE}({_DURATION_TIME})?|{_DURATION_TIME})"
_HEX: Final = "[0-9A-Fa-f]"
_BYTE: Final = r"(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])"
_IPV4: Final = rf"{_BYTE}(\.{_BYTE}){{3}}"
_H16: Final = f"{_HEX}{{1,4}}"
_LS32: Final = f"({_H16}:{_H16}|{_IPV4})"
_IPV6: Final = "({})".format(
    "|".join(
        [
            f"({_H16}:){{6}}{_LS32}",
            f"::({_H16}:){{5}}{_LS32}",
            *(f"({_H16}(:{_H16}){{0,{n}}})?::({_H16}:){{{4 - n}}}{_LS32}" for n in range(5)),
            f"({_H16}(:{_H16}){{0,5}})?::{_H16}",
            f"({_H16}(:{_H16}){{0,6}})?::",
        ]
    )
)
_LABEL: Final = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"
_ATOM: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_QUOTED: Final = r'"([ !#-\[\]-~]|\\[ -~])*"'
_EMAIL: Final = rf"({_ATOM}(\.{_ATOM})*|{_QUOTED})@({_LABEL}(\.{_LABEL})*|\[({_IPV4}|IPv6:{_IPV6})\])"
_ESCAPED: Final = f"%{_HEX}{{2}}"
_PCHAR: Final = rf"([A-Za-z0-9._~!$&'()*+,;=:@-]|{_ESCAPED})"
_AUTHORITY: Final = (
    rf"(([A-Za-z0-9._~!$&'()*+,;=:-]|{_ESCAPED})*@)?"
    rf"(\[({_IPV6}|[vV]{_HEX}+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]|([A-Za-z0-9._~!$&'()*+,;=-]|{_ESCAPED})*)(:\d*)?"
)
_REST: Final = rf"(\?({_PCHAR}|[/?])*)?(#({_PCHAR}|[/?])*)?"
_SCHEME: Final = "[A-Za-z][A-Za-z0-9+.-]*"
_SEGMENTS: Final = f"(/{_PCHAR}*)*"
_HIER: Final = f"(//{_AUTHORITY}{_SEGMENTS}|/({_PCHAR}+{_SEGMENTS})?|"
_POINTER: Final = r"(/([^~/]|~[01])*)*"

_PATTERNS: Final = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}[Tt]{_TIME}",
    "duration": _DURATION,
    "uuid": f"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "email": _EMAIL,
    "uri": rf"{_SCHEME}:{_HIER}{_PCHAR}+{_SEGMENTS}|){_REST}",
    "json-pointer": _POINTER,
    "relative-json-pointer": rf"(0|[1-9]\d*)(#|{_POINTER})",
}
# More than the leap seconds away from the zero offset: which minute goes with which offset, the machine tells.
_LEAP: Final = r"([01]\d|2[0-3]):[0-5]\d:60(\.\d+)?[+-]([01]\d|2[0-3]):[0-5]\d"
_LEAPS: Final = {"time": _LEAP, "date-time": f"{_DATE}[Tt]{_LEAP}"}
DAY: Final = Language(whole=(parse(f"{_DATE}[Tt]"),))
LEAP_LENGTHS: Final = {"time": len("15:59:60-08:00"), "date-time": len("1998-12-31T15:59:60-08:00")}

NAMES: Final = tuple(sorted(_PATTERNS))


@cache
def language(name: str) -> Language | None:
    """The texts of a format; None for a format that is not known."""
    if name not in _PATTERNS:
        return None
    return Language(whole=(parse(_PATTERNS[name]),))


@cache
def leap_language(name: str) -> Language | None:
    """The texts of `time` and `date-time` that their own language leaves out; None for other formats."""
    if name not in _LEAPS:
        return None
    return Language(whole=(parse(_LEAPS[name]),), leap=ShiftedLeapSecond(has_date=name == "date-time"))


def leap_name(language: Language) -> str:
    """Whose leap language this is, its length apart; empty for any other language."""
    return next((name for name in _LEAPS if replace(language, max_length=None) == leap_language(name)), "")


def accepts(name: str, text: str) -> bool:
    """The text is of the format, which has to be one of NAMES."""
    languages = (language(name), leap_language(name))
    return any(one.accepts(text) for one in languages if one)
