"""Text becomes a shareable grammar once; what can not be enforced is refused."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.errors import GrammarError, GrammarInvalid, GrammarUntried
from grammars.trial import Trial
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.conftest import NativeCalls
from tests.unit.grammars.grammar_texts import KILLERS
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


@pytest.fixture(scope="module")
def careful(vocabulary: Vocabulary) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(vocabulary, trial=Trial(vocabulary.native.path, limit_s=10))
    yield compiler
    compiler.close()


def test_a_strangers_text_is_tried_before_it_is_compiled(careful: GrammarCompiler, native_calls: NativeCalls) -> None:
    compiled = careful.compile_untrusted('start ::= "a"', "start")
    assert careful.compile_untrusted('start ::= "a"', "start") is compiled
    assert len(native_calls["llama_sampler_init_grammar"]) == 1
    for killer in KILLERS.values():
        with pytest.raises(GrammarInvalid):
            careful.compile_untrusted(killer)
    assert len(native_calls["llama_sampler_init_grammar"]) == 1


def test_a_text_that_was_trusted_is_tried_when_a_stranger_sends_it(vocabulary: Vocabulary) -> None:
    compiler = GrammarCompiler(vocabulary)
    compiler.compile('root ::= "a"')
    with pytest.raises(GrammarUntried, match="tries no grammars"):
        compiler.compile_untrusted('root ::= "a"')


def test_a_final_refusal_is_remembered_and_another_is_not(vocabulary: Vocabulary) -> None:
    trial = Trial(vocabulary.native.path, limit_s=10)
    compiler = GrammarCompiler(vocabulary, trial=trial)
    with pytest.raises(GrammarInvalid) as first:
        compiler.compile_untrusted("root ::= [")
    trial.close()
    with pytest.raises(GrammarInvalid) as second:
        compiler.compile_untrusted("root ::= [")
    assert str(second.value) == str(first.value)
    assert second.value is not first.value
    for _ in range(2):
        with pytest.raises(GrammarUntried):
            compiler.compile_untrusted("root ::= [a]")


def test_one_slow_text_does_not_hold_up_another(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    is_inside, may_go_on = Event(), Event()
    compiler = GrammarCompiler(vocabulary)
    parse = compiler._parsed

    def slow(gbnf: str, root: str) -> CompiledGrammar:
        if "slow" in gbnf:
            is_inside.set()
            assert may_go_on.wait(30)
        return parse(gbnf, root)

    monkeypatch.setattr(compiler, "_parsed", slow)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(compiler.compile, 'root ::= "slow"') for _ in range(2)]
        assert is_inside.wait(30)
        assert compiler.compile('root ::= "quick"')
        may_go_on.set()
        first, second = (future.result() for future in waiting)
    assert first is second
