"""A stranger's grammar is tried in a process that may hang or die, and never in this one."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest

from grammars import library
from grammars.errors import GrammarInvalid, GrammarUntried
from grammars.gbnf import MAX_BYTES
from grammars.trial import Trial
from grammars.trial_worker import Verdict
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.grammar_texts import AMBIGUOUS, FEATURES, KILLERS

GOOD = 'root ::= "a"'


def check(trial: Trial, gbnf: str = GOOD, root: str = "root") -> None:
    trial.check(gbnf, root, MAX_BYTES)


def is_alive(process_id: int) -> bool:
    """A zombie counts as alive: it still has its number."""
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def trial(vocabulary: Vocabulary) -> Iterator[Trial]:
    trial = Trial(vocabulary.native.path, limit_s=10)
    yield trial
    trial.close()


@pytest.mark.parametrize("name", library.names())
def test_the_library_passes(trial: Trial, name: str) -> None:
    trial.check(library.text(name), "root", 1 << 20)


@pytest.mark.parametrize("text", FEATURES)
def test_every_feature_passes(trial: Trial, text: str) -> None:
    check(trial, text)


@pytest.mark.parametrize("gbnf", [*KILLERS.values(), *AMBIGUOUS.values()], ids=[*KILLERS, *AMBIGUOUS])
def test_killers_and_explosions_are_refused_and_leave_the_worker_alive(trial: Trial, gbnf: str) -> None:
    trial.start()
    before = trial.worker_id
    with pytest.raises(GrammarInvalid):
        check(trial, gbnf)
    assert trial.worker_id == before


@pytest.mark.parametrize(
    ("gbnf", "column", "reason"),
    [
        ("root ::= <no-such-token>", 10, "'<no-such-token>' is not one token of this vocabulary"),
        ("root ::= <[3]> !<[99999]>", 16, "no token 99999; the vocabulary has 640"),
        ("root ::= [b-a]", 11, "reversed"),
    ],
)
def test_a_refusal_comes_back_with_its_place(trial: Trial, gbnf: str, column: int, reason: str) -> None:
    with pytest.raises(GrammarInvalid) as caught:
        check(trial, gbnf)
    assert (caught.value.line, caught.value.column, caught.value.is_final) == (1, column, True)
    assert reason in caught.value.reason


def test_a_name_for_the_root_can_not_pass_for_something_else(trial: Trial) -> None:
    check(trial, 'start ::= "a"', "start")
    for root in ("root\0", "\0root ::= [a]\0", "no-such", "\ud800", ""):
        with pytest.raises(GrammarInvalid):
            check(trial, GOOD, root)


@pytest.mark.parametrize("verdict", [Verdict(), Verdict("why not"), Verdict("a b", 3, 14), Verdict("é \udc80", 1, 1)])
def test_a_verdict_survives_the_way_between_the_processes(verdict: Verdict) -> None:
    read = Verdict.read(verdict.write())
    assert (read.line, read.column, read.is_good) == (verdict.line, verdict.column, verdict.is_good)
    assert read.reason == verdict.reason.replace("\udc80", "?")


def test_what_takes_too_long_is_ended_and_the_next_text_is_tried(vocabulary: Vocabulary) -> None:
    trial = Trial(vocabulary.native.path, limit_s=0.0)
    try:
        trial.start()
        first = trial.worker_id
        assert first is not None
        with pytest.raises(GrammarInvalid, match="takes longer than 0 s to compile") as caught:
            check(trial, library.text("json"))
        assert not caught.value.is_final
        assert trial.worker_id is None
        assert not is_alive(first)
        trial.start()
        assert trial.worker_id not in (None, first)
    finally:
        trial.close()


def test_a_grammar_that_its_worker_dies_of_is_refused(vocabulary: Vocabulary) -> None:
    trial = Trial(vocabulary.native.path, limit_s=30)
    try:
        check(trial)
        worker_id = trial.worker_id
        assert worker_id is not None
        os.kill(worker_id, signal.SIGSTOP)  # so that it dies with the text in its hands
        killer = Timer(0.2, os.kill, (worker_id, signal.SIGKILL))
        killer.start()
        with pytest.raises(GrammarInvalid, match=r"llama\.cpp fails on it .* status -9") as caught:
            check(trial)
        killer.join()
        assert not caught.value.is_final
        check(trial)
    finally:
        trial.close()


def test_a_grammar_for_which_memory_does_not_suffice_is_refused(vocabulary: Vocabulary) -> None:
    trial = Trial(vocabulary.native.path, limit_s=30, memory_bytes=0)
    try:
        with pytest.raises(GrammarInvalid):
            check(trial, "root ::= " + "".join(f'"{n}"{{1999}} ' for n in range(10, 59)))
    finally:
        trial.close()


def test_a_worker_that_was_killed_between_two_texts_is_replaced(vocabulary: Vocabulary) -> None:
    trial = Trial(vocabulary.native.path, limit_s=10)
    try:
        check(trial)
        killed = trial.worker_id
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        os.waitid(os.P_PID, killed, os.WEXITED | os.WNOWAIT)
        check(trial)
        assert trial.worker_id not in (None, killed)
    finally:
        trial.close()


def test_without_a_worker_every_text_is_refused_as_untried(
    vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_at_once = Trial(tmp_path / "no-such.gguf")
    with pytest.raises(GrammarUntried, match="ended with status 1 as it started"):
        check(dies_at_once)
    dies_at_once.close()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    never_starts = Trial(vocabulary.native.path)
    for call in (never_starts.start, lambda: check(never_starts)):
        with pytest.raises(GrammarUntried, match="can not be started: No such file"):
            call()


def test_closing_ends_the_worker_and_nothing_is_tried_after(vocabulary: Vocabulary) -> None:
    trial = Trial(vocabulary.native.path, limit_s=10)
    check(trial)
    process_id = trial.worker_id
    assert process_id is not None
    trial.close()
    trial.close()
    assert not is_alive(process_id)
    with pytest.raises(GrammarUntried, match="closed"):
        check(trial)


def test_threads_take_turns(trial: Trial) -> None:
    def outcome(number: int) -> bool:
        try:
            check(trial, f'root ::= "{number}"' + "*" * (number % 2) + ")" * (number % 3 == 0))
        except GrammarInvalid:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, range(60))) == [number % 3 != 0 for number in range(60)]


def test_a_text_is_searched_unless_it_is_ours_but_for_names(trial: Trial) -> None:
    explosive = AMBIGUOUS["one long, two short"]
    with pytest.raises(GrammarInvalid, match="ambiguous"):
        trial.check(explosive, "root", MAX_BYTES)
    trial.check(explosive, "root", MAX_BYTES, is_searched=False)
