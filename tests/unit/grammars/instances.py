"""The ways to write a JSON value: its properties in some order, its numbers in some form."""

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice, permutations, product

from grammars import regex
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.json_schema import Draft, to_gbnf
from tests.unit.grammars.walks import is_sentence, spell

MOST_SPELLINGS = 400


def plain(number: int | float) -> str:
    """Without exponent, whole numbers without a point."""
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    return str(number) if isinstance(number, int) else format(Decimal(repr(number)), "f")


def short(number: int | float) -> str:
    """As Python writes it, with an exponent where that is shorter; `1.0` stays a fraction."""
    return json.dumps(number)


def spellings(value: object) -> Iterator[str]:
    for form in (plain, short):
        yield from islice(_spelled(value, form), MOST_SPELLINGS)


def _spelled(value: object, form: Callable[[int | float], str]) -> Iterator[str]:
    match value:
        case bool() | None | str():
            yield json.dumps(value, ensure_ascii=False)
        case int() | float():
            yield form(value)
        case list():
            for items in product(*(list(islice(_spelled(item, form), 50)) for item in value)):
                yield f"[{', '.join(items)}]"
        case dict():
            for names in islice(permutations(value), 720):
                for items in product(*(list(islice(_spelled(value[name], form), 50)) for name in names)):
                    fields = zip(names, items, strict=True)
                    yield "{" + ", ".join(f"{json.dumps(n, ensure_ascii=False)}: {item}" for n, item in fields) + "}"


class Speaker:
    """Asks llama.cpp whether a value can be written."""

    def __init__(self, compiler: GrammarCompiler, pieces: Mapping[int, bytes]) -> None:
        self._compiler = compiler
        self._pieces = pieces

    def grammar(self, schema: object, draft: Draft | None = None, asserts_formats: bool = True) -> CompiledGrammar:
        return self._compiler.compile(to_gbnf(schema, draft, asserts_formats))

    def expression(self, pattern: str) -> CompiledGrammar:
        return self._compiler.compile(regex.to_gbnf(pattern))

    def reads(self, grammar: CompiledGrammar, text: str) -> bool:
        return is_sentence(grammar.matcher(), spell(self._pieces, text.encode()))

    def admits(self, grammar: CompiledGrammar, value: object) -> bool:
        """Some spelling of the value is a sentence."""
        return any(self.reads(grammar, text) for text in dict.fromkeys(spellings(value)))
