"""Grammar texts for the tests: known killers of llama.cpp, features one by one, and endless mutations of them."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random
from time import thread_time

from grammars.errors import GrammarInvalid
from tests.unit.grammars.walks import SHARED_DATA


def chain(depth: int) -> str:
    """Each rule begins with the next in two ways: 2^depth ways to begin, in 20 bytes each."""
    links = [f'r{i} ::= r{i + 1} "a" | r{i + 1} "b"' for i in range(depth)]
    return "\n".join(["root ::= r0", *links, f'r{depth} ::= "x"'])


def fastest(call: Callable[[], object], tries: int = 3) -> float:
    """Seconds of this thread's work, a collection of other tests' garbage apart. GrammarInvalid is an outcome."""
    seconds = []
    for _ in range(tries):
        started = thread_time()
        with suppress(GrammarInvalid):
            call()
        seconds.append(thread_time() - started)
    return min(seconds)


KILLERS = {
    "60,000 open parentheses": "root ::= " + "(" * 60_000,
    "20,000 open parentheses": "root ::= " + "(" * 20_000,
    "20,000 nested repetitions": 'root ::= "a"' + "?" * 20_000,
    "exponential beginnings": chain(18),
    "exponential beginnings, deep": chain(900),
    "a loop over a loop": 'root ::= ("a"*)*',
    "a loop over what is empty at last": 'root ::= a*\na ::= b\nb ::= c\nc ::= "" | "x"',
    "left recursion": 'root ::= root "a" | "b"',
    "left recursion through others": 'root ::= a "x"\na ::= b "y"\nb ::= root "z" | "w"',
    "left recursion behind what may be empty": 'root ::= a root "x" | "y"\na ::= b\nb ::= "c" | ""',
    "a lone surrogate": 'root ::= "\ud800"',
    "a lone surrogate in the root's name": 'root ::= "a"\n\udfff ::= "b"',
    "an escaped lone surrogate": 'root ::= "\\uD800"',
    "NUL": 'root ::= "a"\0junk',
    "escaped NUL": 'root ::= "a\\x00"',
    "a root that is only mentioned": 'a ::= root{0} "x"',
    "a root of a rule that is replaced": 'a ::= root\na ::= "x"',
    "more at least than at most": 'root ::= "a"{3,2}',
    "a long literal times 2,000": 'root ::= "' + "a" * 30_000 + '"{2000}',
    "a repetition that becomes unbounded": 'root ::= "a"{0,2001}',
    "2,500 rules": "\n".join(["root ::= r0", *(f"r{i} ::= [a]" for i in range(2_500))]),
    "a sentence that never ends": 'root ::= "a" root',
    "two rules that never end": 'root ::= "a" | b\nb ::= "b" c\nc ::= "c" b',
}

AMBIGUOUS = {
    "a loop over a loop of spaces": 'root ::= (" "+)+ "x"',
    "two alternatives alike": 'root ::= r\nr ::= " " r | " " r | "x"',
    "two kinds of debt": 'root ::= s\ns ::= "a" s "x" | "a" s "y" | "b"',
    "two kinds of debt behind a password": 'root ::= "open sesame" s\ns ::= "a" s "x" | "a" s "y" | "b"',
    "a dangling else": 'root ::= "if" root "then" root "else" root | "if" root "then" root | "x"',
    "four words side by side": 'root ::= w w w w w "!"\nw ::= [a-z]*',
    "one long, two short": 'root ::= ("aaaa" | "aa" "aa")+',
    "options in a row": 'root ::= ("a"?){0,900}',
    "three options in a row": 'root ::= ("a"? "b"? "c"?){300}',
}

FEATURES = (
    'root ::= "a"',
    'root  ::=\n  "a" |\n  "b" # end\n\n# between\nother-1 ::= [0-9]+ root?\r\nx ::= other-1',
    'root ::= [^"\\\\\\x00-\\x1F] | "\\\\" (["\\\\/bfnrt] | "u" [0-9a-fA-F]{4})',
    "root ::= ( [a-z] # a comment\n | [A-Z] )* . [-a] [a-] [a-c-] [\\]\\[\\-]",
    'root ::= "x"{3} "y"{2,} "z"{0,4} ("p" | "q"){2}+ "" | ',
    "root ::= <[5]> !<[6]>* <think> [é-\\u00ff\\U0001F600]",
    'root ::= pair ("," pair)*\npair ::= [a-z]+ "=" value\nvalue ::= [0-9]+ | "[" pair "]"',
    'root ::= "if " root " then " root (" else " root)? | "x"',
    'root ::= ws ("a" ws){0,7}\nws ::= | " " | "\\n" [ \\t]{0,20}',
)

_BITS = (
    *'"()[]{}*+?|.<>!^-\\#\n\r\t ,0123456789abrot:=é\U0001f600',
    *("root", "::=", "root ::= ", "\nr ::= ", '"a"', "[a-z]", "{2,3}", "{0}", "{2001}", "{3,1}", "<[7]>"),
    *(
        "\\x41",
        "\\u00e9",
        "\\U00110000",
        "\\ud800",
        "\\q",
        " | ",
        "( ",
        " )",
        "(r)*",
        '("a"?)*',
        "<think>",
        "[^]",
        "[]",
    ),
)


def corpus() -> list[str]:
    """What is mutated: short, so that mutations meet."""
    path = SHARED_DATA / "gbnf" / "grammar-integration-cases.json"
    cases = json.loads(path.read_text())["cases"] if path.exists() else []
    upstream = [case["text"] for case in cases if case["kind"] == "test_grammar"]
    texts = [*FEATURES, *KILLERS.values(), *AMBIGUOUS.values(), *upstream]
    return [text for text in texts if len(text) < 2_000]


def mutations(seed: int, count: int) -> Iterator[str]:
    """Texts with one to a few faults, texts of grammars grown at random, and soup."""
    chance = Random(seed)
    texts = corpus()
    for _ in range(count):
        kind = chance.random()
        if kind < 0.6:
            yield _mutated(chance, chance.choice(texts), texts)
        elif kind < 0.95:
            yield _grown(chance)
        else:
            yield "root ::= " + "".join(chance.choice(_BITS) for _ in range(chance.randint(0, 40)))


def _mutated(chance: Random, text: str, texts: list[str]) -> str:
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice((0, 0, 1, 1, 2, 8)))
        other = chance.choice(texts)
        cut = chance.randint(0, len(other))
        new = chance.choice(
            ("", chance.choice(_BITS), chance.choice(_BITS), text[start:end] * 2, other[cut : cut + 12])
        )
        text = text[:start] + new + text[end:]
    return text


def _grown(chance: Random) -> str:
    names = ["root", *(f"r{i}" for i in range(chance.randint(0, 6)))]
    # A rule that mentions later ones only, and one in ten any: else most would never end or be left-recursive.
    return "\n".join(
        f"{name} ::= {_alternatives(chance, names if chance.random() < 0.1 else names[number + 1 :], 3)}"
        for number, name in enumerate(names)
    )


def _alternatives(chance: Random, names: list[str], depth: int) -> str:
    return " | ".join(
        " ".join(_item(chance, names, depth) for _ in range(chance.randint(0 if chance.random() < 0.2 else 1, 4)))
        for _ in range(chance.randint(1, 3))
    )


def _item(chance: Random, names: list[str], depth: int) -> str:
    kind = chance.random()
    if kind < 0.35:
        item = f'"{"".join(chance.choice("ab ") for _ in range(chance.randint(1, 3)))}"'
    elif kind < 0.55:
        item = chance.choice(("[a-c]", "[^b]", "[ \\n]", ".", "[é-ü]"))
    elif names and (kind < 0.8 or not depth):
        item = chance.choice(names)
    elif not depth:
        item = '"x"'
    else:
        item = f"({_alternatives(chance, names, depth - 1)})"
    return item + (chance.choice(("*", "+", "?", "{2}", "{0,3}", "{2,}", "{1,40}")) if chance.random() < 0.25 else "")
