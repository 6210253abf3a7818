"""Which token ids a grammar names by token terminals: `<think>` or `<[151667]>`.

llama.cpp verifies and accepts these differently: it lets a token pass whose text crosses from characters into a
terminal (`"a" <[id of ab]>`, `"a" !<think>`), and ends the process as it is accepted. So the terminals that may name a
token of plain text are refused here, and `Matcher` lets a named id pass only where its terminal is next.
"""

import re
from typing import Final

from grammars.errors import GrammarInvalid
from grammars.vocabulary import Vocabulary

_LEXEMES: Final = re.compile(
    r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|#[^\n]*|(!?)(<(?:\[([0-9]+)\]|[^>]*)>)', re.DOTALL
)
"""Strings, classes and comments, so that what they hold is passed over; then negation, terminal and id."""


def named_ids(gbnf: str, vocabulary: Vocabulary) -> frozenset[int]:
    """Of a grammar that llama.cpp has parsed. Raises GrammarInvalid for terminals that can not be enforced."""
    if "<" not in gbnf:
        return frozenset()
    found = set()
    for lexeme in _LEXEMES.finditer(gbnf):
        negation, terminal, number = lexeme.groups()
        if terminal is None:
            continue
        if negation:
            raise GrammarInvalid(f"!{terminal}: negated token terminals are not supported")
        ids = [int(number)] if number else vocabulary.native.tokenize(terminal)
        if len(ids) != 1 or ids[0] >= min(vocabulary.num_logits, vocabulary.native.num_tokens):
            raise GrammarInvalid(f"{terminal} is no token of this vocabulary")
        if vocabulary.is_text[ids[0]]:
            raise GrammarInvalid(f"{terminal} is plain text; write it in quotes")
        if ids[0] in vocabulary.eos_ids or vocabulary.native.is_end(ids[0]):
            raise GrammarInvalid(f"{terminal} ends the answer; a grammar ends where its root does")
        found.add(ids[0])
    return frozenset(found)
