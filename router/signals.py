"""What a prompt is made of: which kinds of material it carries, and what is left when that is taken out.

Owns the signals that words alone do not give (a schema, a graph, broken JSON, an amount with the unit that it should
have) and the skeleton: the prompt with its material replaced by what kind it is, so that the words of a quoted text do
not weigh like those of the instruction. Knows no experts. Every pattern is bounded, and so is the text it sees.
"""

import json
import re
from dataclasses import dataclass

from router.bag import clip

KINDS = (
    "ddl",
    "graph",
    "json",
    "badjson",
    "fence",
    "quote",
    "date",
    "isodate",
    "down",
    "up",
    "imperial",
    "amount",
    "sqlcode",
    "cyphercode",
    "code",
    "columns",
    "rest",
)
OTHERS = ("lines", "length", "question", "portuguese", "english", "howto", "fields", "bare", "short")
MAX_UNIT_CHARS = 400
"""Who wants an amount converted says so early."""
NAMES = (*KINDS, *OTHERS)

_FENCE = re.compile(r"```[ \t]*(\w{0,20})[^\n]{0,40}\n?(.{0,4000}?)(?:```|\Z)", re.S)
_DDL = re.compile(
    r"\bcreate\s+(?:temp\w*\s+)?table\b\s+(?:if\s+not\s+exists\s+)?[\w.\"`\[\]]+(?:\s\w+\")?\s*"
    r"\([^;]{0,1500}?\)\s*(?:;|$|\n)"
    r"|\bcreate\s+table\b[^;()]{1,60}\([^;]{0,1500}?\)",
    re.I | re.M,
)
_GRAPH = re.compile(
    r"\(\s*\w{0,20}\s*:\s*\w{1,40}[^()\n]{0,120}\)"
    r"(?:\s*<?-{1,2}\s*(?:\[[^\]\n]{0,60}\])?\s*-{0,2}>?\s*\([^()\n]{0,120}\))*"
    r"|\(?\b\w{1,40}\)?\s*<?-{1,2}\s*\[[^\]\n]{1,60}\]\s*-{1,2}>?\s*\(?:?\w{1,40}\)?"
    r"|^\s*(?:node (?:properties|labels)|relationship (?:properties|types)|the relationships|relationships|nodes)\s*:",
    re.I | re.M,
)
_SQL_CODE = re.compile(
    r"\bselect\s+(?:distinct\s+)?[\w.*,()\s]{1,120}?\s+from\s+\w+|\binsert\s+into\s+\w+|\bupdate\s+\w+\s+set\b|\bdelete\s+from\s+\w+",
    re.I,
)
_CYPHER_CODE = re.compile(r"\bmatch\s*\(|\bmerge\s*\(|\bdetach\s+delete\b|\breturn\s+\w+\.\w+", re.I)
_CODE = re.compile(
    r"\bdef \w+\(|\bfunction\s+\w*\s*\(|\bconst \w+ ?=|\bimport \w+|\bpublic class\b|=>|</?\w+>"
    r"|\binterface \w+ ?\{|\bfor ?\(|console\.log|print\("
)
_QUOTE = re.compile(r"\"[^\"\n]{6,600}\"|“[^”\n]{3,600}”|(?<!\w)'[^'\n]{6,400}'(?!\w)|«[^»\n]{3,600}»")
_COLUMNS = re.compile(r"\b\w{2,40}\s?\(\s?\w+(?:\s\w+)?(?:\s?,\s?\w+(?:\s\w+)?)+\s?\)|\bcolumns?\b|\bcolunas?\b", re.I)
_MONTH = (
    r"(?:jan(?:uary|eiro)?|feb(?:ruary)?|fevereiro|mar(?:ch|ço)?|apr(?:il)?|abril|may|maio|june?|junho|july?|julho|aug(?:ust)?|agosto|"
    r"sep(?:t(?:ember)?)?|setembro|oct(?:ober)?|outubro|nov(?:ember|embro)?|dec(?:ember)?|dezembro)"
)
_DATE = re.compile(
    rf"\b\d{{1,2}}(?:st|nd|rd|th)?(?:\s+of|\s+de|-|\s|\.)\s*{_MONTH}\b\.?(?:(?:,|\s+de|-|\s)?\s*'?\d{{2,4}}\b)?"
    rf"|\b{_MONTH}\b\.?\s*\d{{1,2}}(?:st|nd|rd|th)?\b(?:,?\s*'?\d{{4}}\b)?"
    r"|\b\d{1,2}[./-]\d{1,2}[./-](?:\d{4}|\d{2})\b",
    re.I,
)
_LOOSE_JSON = re.compile(r"[{}]|\"\s?:\s?[\"\d\[tfn]")
_ISO_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_FIELDS = re.compile(
    r"\b(?:string|number|boolean|bool|int|integer|text|date|float|list|array|optional)s?\b|\w\?\s*:|\[\]", re.I
)
_HOW_TO = re.compile(
    r"^\W{0,3}(?:how (?:do|can|to|does|should|would)|what(?:'s| is| are| does)|why|when|who"
    r"|where|which|is|are|should|explain|como|o que|qual|porqu)\b",
    re.I,
)
_PORTUGUESE = frozenset(
    "o a os as um uma de da do em para que não está é com por se como qual na no meu minha isto este esta ao".split()
)
_ENGLISH = frozenset("the a an is are of to in for my and this that it with on i you we have do can be was".split())

# Metric units by dimension, larger first; what a spelling means.
_DIMENSIONS = (
    "km|kilomet(?:er|re)s? hm m|met(?:er|re)s?|metros? dm|decimet(?:er|re)s? cm|centimet(?:er|re)s?|centímetros?"
    " mm|millimet(?:er|re)s?",
    "t|tons?|tonnes? kg|kgs|kilos?|kilograms?|kilogrammes? g|grams?|gr|gramas? mg|milligrams?",
    "hl|hectolit(?:er|re)s? l|lit(?:er|re)s?|lt|litros? dl|decilit(?:er|re)s? cl|centilit(?:er|re)s?"
    " ml|millilit(?:er|re)s?",
    "gw mw|megawatts? kw|kilowatts? w|watts?",
    "tb|terabytes? gb|gigabytes? mb|megabytes? kb|kilobytes?",
)
_UNIT_PATTERNS = [
    (dimension, size, pattern)
    for dimension, row in enumerate(_DIMENSIONS)
    for size, pattern in enumerate(row.split(" "))
]
_UNITS = re.compile(
    r"(?<![\w/])(?:(?P<number>\d[\d.,]*|\ban?\b|\bone\b|\bhalf an?\b|\btwo\b|\bthree\b)\s?)?(?:"
    + "|".join(f"(?P<u{i}>{pattern})" for i, (_, _, pattern) in enumerate(_UNIT_PATTERNS))
    + r")(?![\w/²³^])",
    re.I,
)
_UNIT_WORDS = ("kilometers", "kilometres", "meters", "metres", "centimeters", "centimetres", "millimeters", "kilograms",
               "kilogram", "grams", "milligrams", "liters", "litres", "milliliters", "millilitres", "tonnes", "watts",
               "kilowatts", "meter", "metre", "liter", "litre", "tonne", "kilos")  # fmt: skip
_LONG_WORD = re.compile(r"(?<![\w/])[a-z]{4,12}(?!\w)", re.I)
_IMPERIAL = re.compile(
    r"\b(?:miles?|inch(?:es)?|feet|foot|ft|yards?|pounds?|lbs?|ounces?|oz|gallons?|pints?|cups?|fahrenheit|celsius|kelvin|mph|acres?|"
    r"dollars?|euros?|usd|eur|hours?|minutes?|seconds?|days?|psi|calories|joules|km/h|m/s)\b|\d\s?°?[cf]\b|m²|m³|\bsquare\b|\bcubic\b",
    re.I,
)


def _slips(word: str) -> set[str]:
    """A word with one letter missing, or two neighbours swapped."""
    missing = {word[:i] + word[i + 1 :] for i in range(1, len(word))}
    return missing | {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}


_MISTYPED = {slip: word for word in _UNIT_WORDS for slip in sorted(_slips(word)) if slip not in _UNIT_WORDS}


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt without its material, and how much of each kind there was, in the order of NAMES."""

    skeleton: str
    values: tuple[float, ...]


def read(text: str) -> Reading:
    """Take the material out, the most telling first: what is inside a schema is not looked at again."""
    text = clip(text)
    counts = dict.fromkeys(NAMES, 0.0)
    left = text
    if "```" in left:
        counts["fence"] = 1.0
        left = _FENCE.sub(lambda match: f" ⟦fence⟧ {match[1]} {match[2]}", left)
    counts["sqlcode"], counts["cyphercode"] = (
        float(bool(_SQL_CODE.search(left))),
        float(bool(_CYPHER_CODE.search(left))),
    )
    counts["code"] = float(bool(_CODE.search(left)))
    if "able" in left.lower():
        left, counts["ddl"] = _take(_DDL, left, "ddl")
    if not counts["cyphercode"] and any(mark in left for mark in (":", "-[", "->")):
        left, counts["graph"] = _take(_GRAPH, left, "graph")
    if "{" in left or "[" in left:
        left, kind = _take_json(left)
        if kind:
            counts[kind] = 1.0
    _read_units(left, counts)
    left, counts["isodate"] = _take(_ISO_DATE, left, "isodate")
    left, counts["date"] = _take(_DATE, left, "date")
    left, counts["quote"] = _take(_QUOTE, left, "quote")
    counts["columns"] = float(bool(_COLUMNS.search(left)))
    for kind in ("down", "up"):
        if counts[kind]:
            left += f" ⟦{kind}⟧"
    skeleton = _instruction(left, counts)
    _read_manner(text, left, counts)
    return Reading(skeleton, tuple(counts[name] for name in NAMES))


def _take(pattern: re.Pattern[str], text: str, kind: str) -> tuple[str, float]:
    left, count = pattern.subn(f" ⟦{kind}⟧ ", text)
    return left, float(min(count, 3))


def _take_json(text: str) -> tuple[str, str]:
    """Replace what looks like an object or a list of values. A brace alone is neither."""
    start = min(place for place in (text.find("{"), text.find("[")) if place >= 0)
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
        # A list that is whole inside an object that is not.
        kind = "badjson" if _LOOSE_JSON.search(text[:start] + text[end:]) else "json"
        if kind == "badjson":
            start, end = _spread(text)
        inside = text[start:end]
    except (ValueError, RecursionError):
        end = max(text.rfind("}"), text.rfind("]")) + 1
        if end <= start:
            end = text.find("\n\n", start) if "\n\n" in text[start:] else len(text)
        inside, kind = text[start:end], "badjson"
    if not any(mark in inside for mark in (":", '"', "'", "=")):
        return text, ""
    return f"{text[:start]} ⟦{kind}⟧ {text[end:]}", kind


def _spread(text: str) -> tuple[int, int]:
    """From the first mark of JSON to the last."""
    places = [match.start() for match in _LOOSE_JSON.finditer(text)] + [
        place for place in map(text.rfind, "]}") if place >= 0
    ]
    return min(places), max(places) + 1


def _read_units(text: str, counts: dict[str, float]) -> None:
    """Whether an amount is to become smaller units, or larger ones."""
    counts["imperial"] = float(bool(_IMPERIAL.search(text)))
    text = _LONG_WORD.sub(lambda match: _MISTYPED.get(match[0].lower(), match[0]), text[:MAX_UNIT_CHARS])
    found = []
    for match in _UNITS.finditer(text):
        index = int(str(match.lastgroup)[1:]) if str(match.lastgroup).startswith("u") else -1
        if index >= 0:
            found.append((*_UNIT_PATTERNS[index][:2], match["number"] is not None))
        if len(found) == 4:
            break
    amounts = [(dimension, size) for dimension, size, is_amount in found if is_amount]
    bare = [(dimension, size) for dimension, size, is_amount in found if not is_amount]
    counts["amount"] = float(bool(amounts))
    for dimension, size in amounts[:1]:
        wanted = [other for same, other in bare if same == dimension]
        if wanted:
            counts["down"] = float(max(wanted) > size)
            counts["up"] = float(max(wanted) < size)


def _instruction(left: str, counts: dict[str, float]) -> str:
    """The part before a colon that begins a text, and of several lines the first and the last."""
    lines = [line for line in left.split("\n") if line.strip()]
    if len(lines) > 2:
        counts["rest"] = 1.0
        lines = [lines[0], "⟦rest⟧", lines[-1]]
    kept = []
    for line in lines:
        head, colon, tail = line[:160].partition(":")
        if colon and len(tail.split()) > 2 and len(head.split()) > 1:
            counts["rest"] = 1.0
            line = f"{head} : ⟦rest⟧"
        words = line.split()
        kept.append(" ".join(words if len(words) <= 40 else [*words[:20], "⟦rest⟧", *words[-20:]]))
    return " ¶ ".join(kept)


def _read_manner(text: str, left: str, counts: dict[str, float]) -> None:
    words = re.findall(r"\w+", left.lower())[:200]
    total = len(words) or 1
    counts["lines"] = min(text.count("\n"), 10) / 10
    counts["length"] = min(len(text), 2000) / 2000
    counts["question"] = float("?" in left)
    counts["portuguese"] = sum(word in _PORTUGUESE for word in words) / total
    counts["english"] = sum(word in _ENGLISH for word in words) / total
    counts["howto"] = float(bool(_HOW_TO.match(left)))
    counts["fields"] = min(len(_FIELDS.findall(left)), 6) / 6
    bare = re.sub(r"⟦\w+⟧|\W", "", left)
    counts["bare"] = float(not bare)
    counts["short"] = float(len(words) < 6)
