"""Levels of nesting are written out; rules that nothing needs are left out."""

import pytest

from grammars.compiler import GrammarCompiler
from grammars.levels import reachable, unrolled
from tests.unit.grammars.walks import is_sentence, spell

NESTED = """root ::= list-1
list-1 ::= "[" (list-2 |
  item-1)? "]"
item-1 ::= "x" item-2?
list-4 ::= "-"
item-4 ::= "y"
"""


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("[[[-]]]", True), ("[[[[-]]]]", False), ("[[-]]", False), ("[]", True), ("[xxxy]", True), ("[[xxy]]", True),
     ("[xxxx]", False)],
)  # fmt: skip
def test_rules_nest_as_deep_as_the_last_level_says(
    compiler: GrammarCompiler, pieces: dict[int, bytes], text: str, is_one: bool
) -> None:
    assert is_sentence(compiler.compile(unrolled(NESTED)).matcher(), spell(pieces, text.encode())) is is_one


def test_a_text_without_levels_stays_as_it_is() -> None:
    gbnf = '# hello-1\nroot ::= "a-1" [b-1]\n'
    assert unrolled(gbnf) == gbnf


def test_a_number_in_a_string_or_a_class_is_no_level() -> None:
    copied = unrolled('root-1 ::= "a-1" [a-1] root-2\nroot-3 ::= "x"\n')
    assert 'root-2 ::= "a-1" [a-1] root-3' in copied


def test_only_rules_that_the_root_leads_to_are_kept_and_no_comments() -> None:
    gbnf = '# said\nroot ::= a | "c" [d]\na ::= "x"\n# more\nc ::= "y" d\nd ::= c\n'
    assert reachable(gbnf) == 'root ::= a | "c" [d]\na ::= "x"\n'
    assert reachable(gbnf, root="c") == 'c ::= "y" d\nd ::= c\n'
