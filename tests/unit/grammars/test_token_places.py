"""No token terminal stands where llama.cpp would let a token through that it then dies of."""

import signal
import subprocess
import sys
from random import Random

import numpy as np
import pytest

from grammars.admission import admit
from grammars.errors import GrammarInvalid
from grammars.native import Sampler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.grammar_texts import fastest
from tests.unit.grammars.raw_llama import ROOT

DEADLY = 'root ::= . !<[6]> "x"'
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from grammars.native import NativeVocab, Sampler
sampler = Sampler.parse(NativeVocab(Path(sys.argv[2])), sys.argv[3], "root")
assert sampler.allows(int(sys.argv[4]))
sampler.accept(int(sys.argv[4]))
"""


def long_token(vocabulary: Vocabulary) -> int:
    return next(i for i, piece in vocabulary.native.text_pieces().items() if piece.isalpha() and len(piece) > 2)


def test_llama_cpp_dies_of_a_token_that_it_has_let_through(vocabulary: Vocabulary) -> None:
    arguments = [str(ROOT), str(vocabulary.native.path), DEADLY, str(long_token(vocabulary))]
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, timeout=60)
    assert ended.returncode == -signal.SIGABRT


@pytest.mark.parametrize(
    ("gbnf", "column"),
    [
        (DEADLY, 12),
        ('root ::= "a" <[7]>', 14),
        ('root ::= "a"? ("b"? | "c") <[7]>', 28),
        ("root ::= ([a-z] | <[7]>){2}", 19),
        ('root ::= !<[7]>* "a"? root2\nroot2 ::= "b"{0,2} <[8]> | <[9]>', None),
        ("root ::= x y\nx ::= [a] e\ne ::= | <[1]>\ny ::= <[2]>", None),
        ("root ::= . <think>", 12),
        ("root ::= [^<]* <think>", 16),
        ('root ::= "think" <think>', 18),
    ],
)
def test_a_terminal_behind_a_character_is_refused(gbnf: str, column: int | None) -> None:
    with pytest.raises(GrammarInvalid, match="may come right after a character") as caught:
        admit(gbnf)
    assert column is None or caught.value.column == column


@pytest.mark.parametrize(
    "gbnf",
    [
        "root ::= <think> !</think>* </think> [^<]*",
        'root ::= <[5]> !<[6]>* <[7]>? "a" | "b" | !<[8]> [c]+',
        'root ::= "Answer: " <think>',
        "root ::= [0-9 .]* </think>",
        'root ::= <[1]> e <[2]> x\ne ::= "" | <[3]>\nx ::= [a]',
    ],
)
def test_a_terminal_behind_tokens_or_other_characters_is_admitted(gbnf: str) -> None:
    admit(gbnf)


def test_the_search_is_linear() -> None:
    many = "root ::= " + "e " * 8_000 + "<[7]>\ne ::= | <[1]>"
    assert fastest(lambda: admit(many)) < 0.2


def test_random_walks_over_terminals_that_are_admitted_never_end_the_process(vocabulary: Vocabulary) -> None:
    chance = Random(4)
    ids = vocabulary.text_ids
    num_walks = 0
    for _ in range(400):
        gbnf = "root ::= " + " ".join(_item(chance, 3) for _ in range(chance.randint(2, 5)))
        try:
            admit(gbnf)
        except GrammarInvalid:
            continue
        sampler = Sampler.parse(vocabulary.native, gbnf, "root")
        num_walks += 1
        for _ in range(12):
            allowed = ids[sampler.allows_each(ids)]
            if not len(allowed):
                break
            sampler.accept(int(chance.choice(np.sort(allowed)[-40:].tolist())))
        sampler.close()
    assert num_walks > 50


def _item(chance: Random, depth: int) -> str:
    if depth and chance.random() < 0.3:
        inner = " | ".join(
            " ".join(_item(chance, depth - 1) for _ in range(chance.randint(1, 3))) for _ in range(chance.randint(1, 3))
        )
        return f"({inner}){chance.choice(('', '', '?', '{1,3}'))}"
    token = f"<[{chance.randint(250, 600)}]>"
    return chance.choice((token, f"!{token}", f"!{token}", '"a"', ".", "[^x]", "[a-z]")) + chance.choice(
        ("", "", "?", "{2}")
    )
