"""The grammars that come with Hotseat, by name. The files are in `library/`; the server and the tests call
this.

Where NAME.reserved lies beside NAME.gbnf, the grammar may use the rule `word`: an identifier that is none of
the reserved words.
"""

from functools import cache
from importlib import resources
from typing import Final

from grammars.errors import GrammarUnknown
from grammars.words import words_except

_FOLDER: Final = resources.files("grammars") / "library"


def names() -> tuple[str, ...]:
    return tuple(sorted(f.name.removesuffix(".gbnf") for f in _FOLDER.iterdir() if f.name.endswith(".gbnf")))


@cache
def text(name: str) -> str:
    known = names()
    if name not in known:
        raise GrammarUnknown(name, known)
    gbnf = (_FOLDER / f"{name}.gbnf").read_text(encoding="utf-8")
    return gbnf + words_except("word", reserved(name)) if reserved(name) else gbnf


@cache
def reserved(name: str) -> frozenset[str]:
    """The words that the grammar can not have as identifiers; none where it has no such rule."""
    file = _FOLDER / f"{name}.reserved"
    return frozenset(file.read_text(encoding="utf-8").split()) if file.is_file() else frozenset()
