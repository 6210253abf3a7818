"""The strings that the schemas of one way admit, as languages. Called by `shapes`, `fields` and `members`."""

from collections.abc import Iterator
from dataclasses import replace

from grammars.automaton import Language, automaton
from grammars.errors import AutomatonTooLarge, SchemaUnsupported
from grammars.json_schema import formats
from grammars.json_schema.children import expression, has, keyword
from grammars.json_schema.document import Node, Place
from grammars.json_schema.negation import NOT_IN, NOT_PATTERN
from grammars.regex_tree import any_of


def languages_of(way: Node) -> list[Language]:
    """No text is in two of them. Raises SchemaUnsupported for a pattern or a format that can not be enforced."""
    beside = _joined(_beside_format(place) for place in way)
    named = {name: place for place in way if (name := _format(place))}
    usual = _joined(_usual(name, place) for name, place in named.items())
    found = [beside.also(usual)]
    if len(named) == 1:  # no leap second has two formats
        found.extend(leap for name, place in named.items() for leap in _leaps(beside, name, place))
    return [one for one in found if one.max_length is None or one.min_length <= one.max_length]


def accepts(way: Node, text: str) -> bool:
    return any(language.accepts(text) for language in languages_of(way))


def emptiness(language: Language, place: Place | None, keyword_name: str) -> tuple[bool, int]:
    """No text has it; and how many steps it took to find out. Raises SchemaUnsupported where they are too many."""
    if language.is_free:
        return language.max_length is not None and language.min_length > language.max_length, 0
    try:
        built = automaton(language)
        return built.is_empty, built.num_steps
    except AutomatonTooLarge as large:
        raise SchemaUnsupported(keyword_name, place.pointer if place else "#", large.reason) from large


def _is_empty(language: Language, place: Place) -> bool:
    return emptiness(language, place, "format")[0]


def _joined(languages: Iterator[Language]) -> Language:
    joined = Language()
    for language in languages:
        joined = joined.also(language)
    return joined


def _beside_format(place: Place) -> Language:
    language = Language()
    for name, is_wanted in (("pattern", True), (NOT_PATTERN, False)):
        pattern = keyword(place, name)
        if isinstance(pattern, str):
            tree = (expression(place, name.lstrip("!"), pattern),)
            language = language.also(Language(somewhere=tree) if is_wanted else Language(nowhere=tree))
    excluded = keyword(place, NOT_IN)
    if isinstance(excluded, list):
        texts = [value for value in excluded if isinstance(value, str)]
        language = language.also(Language(not_whole=(any_of(texts),))) if texts else language
    least, most = keyword(place, "minLength"), keyword(place, "maxLength")
    bounds = Language(
        min_length=int(least) if isinstance(least, int | float) else 0,
        max_length=int(most) if isinstance(most, int | float) else None,
    )
    return language.also(bounds)


def _format(place: Place) -> str:
    """The format by which a string is constrained, if there is one."""
    name = keyword(place, "format")
    is_of_text = isinstance(name, str) and name not in formats.IGNORED and name not in formats.INTEGER_BITS
    return str(name) if is_of_text else ""


def _usual(name: str, place: Place) -> Language:
    language = formats.language(name)
    if language is None:
        known = ", ".join(formats.NAMES)
        raise SchemaUnsupported("format", place.pointer, f"{name!r:.60} is none of {known}")
    return language


def _leaps(beside: Language, name: str, place: Place) -> list[Language]:
    """The leap seconds away from the zero offset, as far as the conditions beside the format leave them.

    Conditions that all of them fulfil, or none, are the ones that can be enforced; and a bound on the length.
    """
    leap = formats.leap_language(name)
    if leap is None or (beside.max_length is not None and beside.max_length < formats.LEAP_LENGTHS[name]):
        return []
    around, conditions = replace(leap, leap=None), replace(beside, max_length=None)
    if _is_empty(conditions.also(around), place):
        return []
    if not all(_is_empty(opposite.also(around), place) for opposite in _opposites(conditions)):
        keyword_name = next((n for n in ("pattern", "minLength") if has(place, n)), "format")
        raise SchemaUnsupported(keyword_name, place.pointer, "leap seconds of the format can not be told apart by it")
    return [replace(leap, max_length=beside.max_length)]


def _opposites(language: Language) -> Iterator[Language]:
    """For each condition the texts that do not meet it."""
    yield from (Language(not_whole=(node,)) for node in language.whole)
    yield from (Language(nowhere=(node,)) for node in language.somewhere)
    yield from (Language(whole=(node,)) for node in language.not_whole)
    yield from (Language(somewhere=(node,)) for node in language.nowhere)
    if language.min_length:
        yield Language(max_length=language.min_length - 1)
