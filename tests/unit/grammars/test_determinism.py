"""Where determinism is shown, the search must find nothing and no text may open many stacks."""

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings

from grammars import growth, json_schema, library, regex, spec
from grammars.admission import Admitted, admit
from grammars.determinism import is_deterministic
from grammars.errors import GrammarError, GrammarInvalid
from grammars.lowered import Chars
from grammars.spec import MAX_MADE_BYTES
from grammars.stacks import Machine
from tests.unit.grammars.grammar_texts import AMBIGUOUS, mutations
from tests.unit.grammars.schema_strategies import schemas

SHOWN = {
    "a literal": 'root ::= "abc"',
    "names with a common beginning": 'root ::= ("name one" | "name two" | "name three") ","',
    "right recursion": 'root ::= "a" root | "b"',
    "nesting": 'root ::= "(" root ")" root | ""',
    "a list": 'root ::= "[" (item ("," item)*)? "]"\nitem ::= [0-9]+ | root',
    "optional members in order": 'root ::= "{" a "}"\na ::= "\\"ab\\"" b | b\nb ::= "\\"ac\\"" | ""',
    "two ways until a late character": 'root ::= [a-z]* "1" | [a-z]* "2"',
    "counted before its own kind": 'root ::= pair+\npair ::= [a-z]{1,3} "=" [a-z]{2} ";"',
    "a rule behind which different things come": 'root ::= w "!" | "x" w "?"\nw ::= [a-z] w | ""',
}
NOT_SHOWN = {
    "one text read in two ways": 'root ::= ("a" | "aa")*',
    "a suffix that every level may have": 'root ::= "(" root x | "0"\nx ::= "y" | ""',
    "a token": 'root ::= "a" <[5]>',
}


def is_shown(admitted: Admitted) -> bool:
    lowered = admitted.lowered
    return is_deterministic(lowered, lowered.rules[admitted.root], admitted.nullable, admitted.left_order)


@pytest.mark.parametrize("text", SHOWN.values(), ids=SHOWN)
def test_a_grammar_that_settles_what_it_reads_is_shown_to_be_harmless(text: str) -> None:
    assert is_shown(admit(text))


@pytest.mark.parametrize("text", [*NOT_SHOWN.values(), *AMBIGUOUS.values()], ids=[*NOT_SHOWN, *AMBIGUOUS])
def test_nothing_is_shown_of_a_grammar_that_does_not(text: str) -> None:
    try:
        admitted = admit(text)
    except GrammarInvalid:
        pytest.skip("not admitted at all")
    assert not is_shown(admitted)


def test_many_alternatives_that_agree_on_one_character_are_left_to_the_search() -> None:
    ways = " | ".join(f'"a"{{{count}}} "{chr(0x100 + count)}"' for count in range(1, 400))
    assert not is_shown(admit(f"root ::= {ways}"))


def test_of_what_is_shown_the_search_finds_nothing_and_random_texts_open_few_stacks() -> None:
    num_shown = num_bad = 0
    for text in mutations(seed=11, count=600):
        try:
            admitted = admit(text)
        except GrammarInvalid:
            continue
        if is_shown(admitted):
            num_shown += 1
            growth.search(admitted.lowered, admitted.root)
            assert most_ways(admitted, Random(text)) <= 100, text
        else:
            num_bad += bool(found(admitted))
    assert num_shown > 25  # more where ../shared is there, whose texts are mutated as well
    assert num_bad > 10  # the texts are not tame ones


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(schemas())
def test_of_what_is_shown_of_a_converted_schema_the_search_finds_nothing(schema: object) -> None:
    try:
        admitted = admit(json_schema.to_gbnf(schema), max_bytes=MAX_MADE_BYTES)
    except GrammarError:
        return
    if is_shown(admitted):
        growth.search(admitted.lowered, admitted.root)


def test_what_services_ask_for_is_shown_so_that_it_is_never_searched() -> None:
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 80},
            "email": {"type": "string", "format": "email"},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "score": {"type": "number"},
            "level": {"enum": ["low", "medium", "high"]},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
            "friends": {"type": "array", "items": {"$ref": "#"}},
        },
        "required": ["name", "level"],
    }
    words = tuple(f"option {number}" for number in range(300))
    texts = [
        json_schema.to_gbnf(person),
        json_schema.to_gbnf(person | {"additionalProperties": False}),
        json_schema.to_gbnf({"type": "string", "format": "uuid"}),
        json_schema.to_gbnf({}),
        regex.to_gbnf(r"(\+\d{1,3} )?\d{3}-\d{4}|none"),
        spec.source(spec.OneOf(words)).gbnf,
        library.text("json"),
    ]
    for text in texts:
        assert is_shown(admit(text, max_bytes=MAX_MADE_BYTES)), text[:200]


def found(admitted: Admitted) -> str:
    try:
        growth.search(admitted.lowered, admitted.root)
    except GrammarInvalid as fault:
        return fault.reason
    return ""


def most_ways(admitted: Admitted, chance: Random) -> int:
    """The most readings of one of some random texts at any place."""
    machine = Machine(admitted.lowered)
    most = 0
    for _ in range(5):
        ways = dict.fromkeys(machine.begin(admitted.lowered.rules[admitted.root]), 1)
        for _ in range(40):
            most = max(most, sum(ways.values()))
            tops = [machine.top(stack) for stack in ways if stack]
            points = [point for top in tops for point in ends(top)]
            if not points:
                break
            point = chance.choice(points)
            following: dict[int, int] = {}
            for stack, count in ways.items():
                if stack and growth.matches(machine.top(stack), point):
                    for after in machine.after(stack):
                        following[after] = following.get(after, 0) + count
            ways = following
    return most


def ends(top: object) -> list[int]:
    """The first and the last of each range of characters."""
    if isinstance(top, str):
        return [ord(top[0])]
    return [point for span in top.ranges for point in span] if isinstance(top, Chars) else []
