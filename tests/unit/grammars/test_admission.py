"""llama.cpp is given only what it reads, compiles and begins in little time; the rest is refused in words."""

import json

import pytest

from grammars import growth, library
from grammars.admission import MAX_STARTS, admit
from grammars.compiler import GrammarCompiler
from grammars.errors import GrammarInvalid
from tests.unit.grammars.grammar_texts import AMBIGUOUS, FEATURES, KILLERS, chain, fastest
from tests.unit.grammars.walks import SHARED_DATA, is_sentence, spell

CASES_FILE = SHARED_DATA / "gbnf" / "grammar-integration-cases.json"
CASES = json.loads(CASES_FILE.read_text())["cases"] if CASES_FILE.exists() else []
GBNF_CASES = [case for case in CASES if case["kind"] == "test_grammar"]


@pytest.mark.parametrize("name", KILLERS)
def test_what_kills_llama_cpp_is_refused_within_100_ms(name: str) -> None:
    with pytest.raises(GrammarInvalid) as caught:
        admit(KILLERS[name])
    assert len(str(caught.value)) < 300
    assert fastest(lambda: admit(KILLERS[name])) < 0.1


@pytest.mark.parametrize("name", library.names())
def test_every_library_grammar_is_admitted(name: str) -> None:
    admitted = admit(library.text(name), max_bytes=1 << 20)
    assert admitted.unreachable == ()
    growth.check(admitted)


@pytest.mark.parametrize("text", FEATURES)
def test_every_feature_is_admitted(text: str) -> None:
    growth.check(admit(text))


@pytest.mark.parametrize("case", GBNF_CASES, ids=lambda case: case["desc"])
def test_upstreams_cases_are_admitted_and_behave(
    case: dict[str, object], compiler: GrammarCompiler, pieces: dict[int, bytes]
) -> None:
    gbnf = str(case["text"])
    if case["desc"] == "segfault":  # a loop over a loop, which llama.cpp has learned to survive
        with pytest.raises(GrammarInvalid, match="repeats without limit what may be empty"):
            admit(gbnf)
        return
    growth.check(admit(gbnf))
    compiled = compiler.compile(gbnf)
    for key, is_right in (("pass", True), ("fail", False)):
        texts = case[key]
        assert isinstance(texts, list)
        for text in texts:
            assert is_sentence(compiled.matcher(), spell(pieces, text.encode())) is is_right, text


@pytest.mark.parametrize(
    ("gbnf", "line", "column", "reason"),
    [
        ("root ::= [a]\nx ::= root missing", 2, 12, "no rule 'missing'"),
        ("root ::= gone{0}", 1, 10, "no rule 'gone'"),
        ("start ::= [a]", None, None, "no rule 'root' to be the root; it has: start"),
        ('root ::= a\na ::= "x" | b "y"\nb ::= a "z"', 2, 1, "left-recursive: it may begin with itself (a -> b -> a)"),
        ('root ::= "x"\nunused ::= unused "y" | "z"', 2, 1, "(unused -> unused)"),
        ('root ::= ("a"? root)? "b"', 1, 1, "left-recursive"),
        ('root ::= "x" ("a" | "b"?)+', 1, 26, "repeats without limit what may be empty"),
        ('root ::= "x" e{2,}\ne ::= ""', 1, 15, "repeats without limit what may be empty"),
        ('root ::= "x" | loop\nloop ::= "(" loop ")"', 2, 1, "'loop' can never end"),
        ('root ::= "x" (root "y")', 1, 1, "can never end"),
        ("root ::= [^\\x01-\\U0010FFFF]", 1, 1, "nothing can match"),
        ("root ::= [\\x00]", 1, 1, "nothing can match"),
        ('root ::= "a\\x00"', 1, 1, "nothing can match"),
        ('root ::= "' + "a" * 101 + '"{2000}', None, None, "202,001 elements; the limit is 200,000"),
        (chain(10), 2, 1, "more than 1,000 ways"),
        ('root ::= "a" w w\nw ::= ' + " | ".join(f'"{n}"' for n in range(600)) + " | ", 1, 1, "can go on in more"),
    ],
)
def test_a_fault_of_meaning_has_its_place_and_reason(
    gbnf: str, line: int | None, column: int | None, reason: str
) -> None:
    with pytest.raises(GrammarInvalid) as caught:
        admit(gbnf)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    "gbnf",
    [
        chain(9),
        "root ::= " + " | ".join(f'"{n}"' for n in range(MAX_STARTS)),
        "\n".join(["root ::= r0", *(f"r{i} ::= r{i + 1}" for i in range(1_990)), "r1990 ::= [a]"]),
        'root ::= "a" root | "b"',
        'root ::= "(" root ")" | "x"\nunused ::= "y"',
        'root ::= ("a"?){0,40} "b"?',
        'root ::= e "x"\ne ::= | e2\ne2 ::= ""',
        'root ::= "a"{0} "b"',
        "root ::= [^\\uD800-\\uDFFF]* [\\x00-\\x7f]",
    ],
)
def test_what_is_odd_and_harmless_is_admitted_and_compiles(gbnf: str, compiler: GrammarCompiler) -> None:
    admit(gbnf)
    assert compiler.compile(gbnf)


def test_rules_that_the_root_never_comes_to_are_named_and_no_fault() -> None:
    assert admit('root ::= a\na ::= "x"\nb ::= c\nc ::= "y" b | "z"').unreachable == ("b", "c")
    assert admit('root ::= a\na ::= "x"\nb ::= a', root="b").unreachable == ("root",)


def test_what_admission_counts_is_what_llama_cpp_holds() -> None:
    # S{2,4} is S S S'2; S'1 ::= S |; S'2 ::= S S'1 |, and every alternative has an end.
    assert admit('root ::= "ab"{2,4}').lowered.num_elements == (2 * 2 + 1 + 1) + 2 * (2 + 3)
    assert admit("root ::= [a-z0] | .*").lowered.num_elements == (3 + 1) + (1 + 1) + (1 + 3)


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_explodes_as_text_comes_in_is_refused_soon(name: str) -> None:
    admitted = admit(AMBIGUOUS[name])
    with pytest.raises(GrammarInvalid, match="too ambiguous") as caught:
        growth.check(admitted)
    assert caught.value.line is not None
    assert fastest(lambda: growth.check(admitted)) < 0.1


def test_readings_count_only_within_a_token() -> None:
    digits = admit('root ::= n ("," n)*\nn ::= [0-9] | [1-9] [0-9]{0,3}')  # `1` in two ways
    growth.check(digits)
    growth.check(digits, ["1,1,1,1"])
    with pytest.raises(GrammarInvalid, match="too ambiguous: '1,1,1"):
        growth.check(digits, ["1," * 20])


@pytest.mark.parametrize(
    "gbnf",
    [
        'root ::= value\nvalue ::= "[" (value ("," value)*)? "]" | [0-9]+',
        'root ::= [a-z]+ ("(" ")")? | [a-z]+ "=" [0-9]+',
        'root ::= ws "a" ws "b" ws\nws ::= [ \\t\\n]*',
        "root ::= [^\\n]{0,2000}",
        "root ::= " + " | ".join(f'"item {n}"' for n in range(900)),
    ],
)
def test_what_stays_small_as_text_comes_in_is_admitted(gbnf: str) -> None:
    growth.check(admit(gbnf))
