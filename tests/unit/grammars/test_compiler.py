"""Text becomes a shareable grammar once; what can not be enforced is refused."""

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from grammars import library
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarError, GrammarInvalid
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.conftest import NativeCalls
from tests.unit.grammars.walks import feed, spell


@pytest.mark.parametrize(
    "gbnf",
    [
        "",
        'root ::= "a',
        "root ::= missing",
        'start ::= "a"',
        'root ::= root "a" | "b"',
        'root ::= under_score\nunder_score ::= "a"',
        "root ::= [a-",
        'root ::= ("a"',
        'root ::= "a"{2001}',
        "root ::= <no-such-token>",
        'root ::= "a"\0junk',
    ],
)
def test_text_that_is_no_grammar_is_refused(compiler: GrammarCompiler, gbnf: str) -> None:
    with pytest.raises(GrammarInvalid, match="invalid grammar: ") as caught:
        compiler.compile(gbnf)
    assert isinstance(caught.value, GrammarError)


def test_a_refused_text_is_refused_again(compiler: GrammarCompiler) -> None:
    for _ in range(2):
        with pytest.raises(GrammarInvalid, match="the root 'root'"):
            compiler.compile("root ::= nothing")


def test_another_root_is_another_grammar(compiler: GrammarCompiler, pieces: dict[int, bytes]) -> None:
    gbnf = 'root ::= "a"\nother ::= "b"'
    assert feed(compiler.compile(gbnf).matcher(), spell(pieces, b"a"))
    assert feed(compiler.compile(gbnf, root="other").matcher(), spell(pieces, b"b"))
    with pytest.raises(GrammarInvalid, match="the root 'third'"):
        compiler.compile(gbnf, root="third")


def test_a_text_asked_for_again_is_not_compiled_again(vocabulary: Vocabulary, native_calls: NativeCalls) -> None:
    compiler = GrammarCompiler(vocabulary)
    assert compiler.compile('root ::= "a"') is compiler.compile('root ::= "a"')
    assert len(native_calls["llama_sampler_init_grammar"]) == 1


def test_the_cache_forgets_what_was_used_longest_ago(vocabulary: Vocabulary, native_calls: NativeCalls) -> None:
    compiler = GrammarCompiler(vocabulary, cache_size=2)
    kept = compiler.compile('root ::= "kept"')
    compiler.compile('root ::= "forgotten"')
    assert compiler.compile('root ::= "kept"') is kept
    compiler.compile('root ::= "new"')
    gc.collect()
    assert len(native_calls["llama_sampler_free"]) == 1  # and its memory is given back
    assert compiler.compile('root ::= "kept"') is kept
    compiler.compile('root ::= "forgotten"')
    assert len(native_calls["llama_sampler_init_grammar"]) == 4


def test_threads_share_one_grammar_and_each_has_its_own_place(
    vocabulary: Vocabulary, pieces: dict[int, bytes], native_calls: NativeCalls
) -> None:
    compiler = GrammarCompiler(vocabulary)
    together = Barrier(8)
    sentence = spell(pieces, b"SELECT name FROM singers WHERE city = 'Porto';")

    def use() -> tuple[int, bool]:
        together.wait(timeout=30)
        compiled = compiler.compile(library.text("sql"))
        ended = []
        for _ in range(5):
            matcher = compiled.matcher()
            ended.append(feed(matcher, sentence) and matcher.must_stop)
            matcher.close()
        return id(compiled), all(ended)

    with ThreadPoolExecutor(8) as pool:
        outcomes = [f.result() for f in [pool.submit(use) for _ in range(8)]]
    assert len({identity for identity, _ in outcomes}) == 1
    assert all(ended for _, ended in outcomes)
    assert len(native_calls["llama_sampler_init_grammar"]) == 1
