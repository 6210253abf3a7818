"""Words laid out as a prefix tree are still exactly those words."""

from hypothesis import given, settings
from hypothesis import strategies as st

from grammars.compiler import GrammarCompiler
from grammars.prefix_tree import one_of, tree
from tests.unit.grammars.walks import is_sentence, spell

WORD = st.text('ab"\\é ', min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(words=st.sets(WORD, min_size=1, max_size=8), other=WORD)
def test_exactly_the_words_are_sentences(
    compiler: GrammarCompiler, pieces: dict[int, bytes], words: set[str], other: str
) -> None:
    compiled = compiler.compile(f"root ::= {one_of(sorted(words))}")
    for word in {*words, other}:
        assert is_sentence(compiled.matcher(), spell(pieces, word.encode())) is (word in words)


def test_a_word_goes_on_as_any_of_its_continuations_says(compiler: GrammarCompiler, pieces: dict[int, bytes]) -> None:
    gbnf = f'root ::= {tree({"ab": ("", "dot"), "abc": ("dot",), "x": ("",)})}\ndot ::= "."'
    for text, is_one in {"ab": True, "ab.": True, "abc": False, "abc.": True, "x": True, "x.": False}.items():
        assert is_sentence(compiler.compile(gbnf).matcher(), spell(pieces, text.encode())) is is_one, text
