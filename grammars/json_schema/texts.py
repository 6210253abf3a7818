"""The strings that the schemas of one way admit, as one language. Called by `shapes`, `members` and `disjoint`."""

from grammars.automaton import Language
from grammars.errors import SchemaUnsupported
from grammars.json_schema import formats
from grammars.json_schema.children import expression, keyword
from grammars.json_schema.document import Node, Place
from grammars.json_schema.negation import NOT_IN, NOT_PATTERN
from grammars.regex_tree import any_of


def language_of(way: Node) -> Language:
    """Raises SchemaUnsupported for a pattern or a format that can not be enforced."""
    language = Language()
    for place in way:
        language = language.also(_language(place))
    return language


def _language(place: Place) -> Language:
    language = _of_format(place)
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


def _of_format(place: Place) -> Language:
    name = keyword(place, "format")
    if not isinstance(name, str) or name in formats.IGNORED or name in formats.INTEGER_BITS:
        return Language()
    language = formats.language(name)
    if language is None:
        known = ", ".join(formats.NAMES)
        raise SchemaUnsupported("format", place.pointer, f"{name!r:.60} is none of {known}")
    return language
