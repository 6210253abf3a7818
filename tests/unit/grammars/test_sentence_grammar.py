"""The sentence grammar keeps running text to one line with a capital and an end, in any script."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import answers, is_sentence, spell, walked

Pieces = dict[int, bytes]

# Latin, Greek, Cyrillic and Armenian, and what lies between them.
CASED = [chr(code) for code in (*range(0x80, 0x590), *range(0x1E00, 0x1F00))]
# Control characters, every space but the plain one, and the separators of lines and paragraphs.
FORBIDDEN = [
    chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) in ("Cc", "Zs", "Zl", "Zp") and code != 0x20
]


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("sentence"))


@pytest.mark.parametrize("task", ["formal-tone", "en-pt"])
def test_every_answer_of_the_experts_is_a_sentence(grammar: CompiledGrammar, pieces: Pieces, task: str) -> None:
    for text in answers(task):
        assert is_sentence(grammar.matcher(), spell(pieces, text.encode())), text


@pytest.mark.parametrize("longest", [1, 64])
@pytest.mark.parametrize(
    "text",
    [
        "O gato é preto.",
        "Ótimo!",
        "É você, “Zé”?",
        "3.5 km are enough, e.g. for Dr. Silva…!",
        "A.",
        "Ça va ?!",
        "Ωραία μέρα.",
        "Это дом — мой дом.",
        "Ấy là nhà.",
        "Գիրք է.",
        "저는 학생입니다.",
        "这是我的家!",
        "これは家です?",
        "هذا بيتي.",
        "यह घर है!",
        "ეს სახლია.",
        "I\u2019m happy 🙂 today.",
    ],
)
def test_sentences_of_any_script_are_accepted(
    grammar: CompiledGrammar, pieces: Pieces, text: str, longest: int
) -> None:
    assert is_sentence(grammar.matcher(), spell(pieces, text.encode(), longest))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "o gato.",
        "é bom.",
        "это дом.",
        " O gato.",
        "O gato",
        "O gato;",
        "O gato. ",
        "O gato.\n",
        "O  gato.",
        "O\ngato.",
        "O\tgato.",
        '"O gato."',
        "- O gato.",
        "«O gato.",
        "O gato\x00.",
    ],
)
def test_anything_else_is_refused(grammar: CompiledGrammar, pieces: Pieces, text: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, text.encode()))


def test_where_there_are_two_cases_it_begins_with_the_upper(grammar: CompiledGrammar, pieces: Pieces) -> None:
    for character in CASED:
        is_upper = unicodedata.category(character) in ("Lu", "Lt")
        assert is_sentence(grammar.matcher(), spell(pieces, f"{character}.".encode())) is is_upper, character


def test_no_white_space_but_the_plain_space_and_no_control_character(grammar: CompiledGrammar, pieces: Pieces) -> None:
    assert len(FORBIDDEN) > 80
    for character in FORBIDDEN:
        for text in (f"{character}A.", f"A{character}b.", f"A {character}b.", f"Ab{character}."):
            assert not is_sentence(grammar.matcher(), spell(pieces, text.encode())), ascii(text)


@pytest.mark.parametrize(("text", "length"), [("a", 200), ("a b", 300), ("日", 200)])
def test_the_length_is_bounded(grammar: CompiledGrammar, pieces: Pieces, text: str, length: int) -> None:
    """How long a sentence may be depends on where its spaces are; it is never above 300."""
    fitting = "A" + (text * 300)[: length - 2] + "."
    assert len(fitting) == length
    assert is_sentence(grammar.matcher(), spell(pieces, fitting.encode()))
    for more in range(1, 120):
        longer = "A" + (text * 300)[: length - 2 + more] + "."
        accepted = is_sentence(grammar.matcher(), spell(pieces, longer.encode()))
        assert not accepted or len(longer) <= 300


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), prefix=st.sampled_from(["", "O ", "É", "3", "A" * 190, "A " + "b c" * 95]))
def test_a_random_walk_ends_in_a_sentence(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    text = walked(grammar, vocabulary, pieces, seed, prefix, closers=b".")
    assert text[-1] in ".!?"
    assert "  " not in text and not set(text) & set(FORBIDDEN)
    if "\ufffd" not in text:  # bytes that are no UTF-8: llama.cpp lets overlong forms through
        assert len(text) <= 300
        # Georgian is written in what Unicode calls its small letters.
        assert not text[0].islower() or unicodedata.name(text[0]).startswith("GEORGIAN")
