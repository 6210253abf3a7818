"""The text that a grammar forces: one character alone may follow, and again one behind it, up to where a choice is.

Walks the rules of the grammar from the stacks of a state, as llama.cpp does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from grammars.runs import Rules, Stack
from grammars.token_table import Ranges

MAX_CHARACTERS: Final = 100
"""A rule may force text without an end."""
_MAX_STACKS: Final = 16


@dataclass(frozen=True, slots=True)
class Forced:
    text: str
    followers: Ranges | None
    """The characters that may come behind it: none where the text ends, None where they are not known."""


def forced(rules: Rules, stacks: Iterable[Stack]) -> Forced:
    """What every sentence has in common from here on, as far as it is followed."""
    text = ""
    here: set[Stack] | None = set(stacks)
    while here and len(here) <= _MAX_STACKS and len(text) < MAX_CHARACTERS:
        if (character := rules.only_character(here)) is None:
            break
        text += chr(character)
        here = rules.step(here)
    return Forced(text, None if here is None else rules.characters(here))
