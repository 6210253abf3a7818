"""A grammar's text becomes a tree, or its first fault has a line and a column."""

import pytest

from grammars import library
from grammars.errors import GrammarInvalid
from grammars.gbnf import MAX_BYTES, MAX_DEPTH, MAX_NESTING, MAX_RULES, parse
from grammars.syntax import (
    Alternatives,
    AnyChar,
    CharClass,
    Group,
    Literal,
    Place,
    Reference,
    Repeat,
    Rule,
    Token,
)
from tests.unit.grammars.grammar_texts import FEATURES, KILLERS, fastest


def root_of(text: str) -> Alternatives:
    return parse(text).rules["root"].alternatives


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('"ab"', ((Literal("ab"),),)),
        ('"a" "b"', ((Literal("a"), Literal("b")),)),
        ('"a" | [b]', ((Literal("a"),), (CharClass(((98, 98),)),))),
        ("", ((),)),
        ('| "a" |', ((), (Literal("a"),), ())),
        ('""', ((Literal(""),),)),
        ('"\\x41\\u00e9\\U0001F600\\t\\r\\n\\\\\\"\\[\\]\\-"', ((Literal('Aé\U0001f600\t\r\n\\"[]-'),),)),
        ('"two\nlines"', ((Literal("two\nlines"),),)),
        ("[a-z0_]", ((CharClass(((97, 122), (48, 48), (95, 95))),),)),
        ("[^\\n]", ((CharClass(((10, 10),), is_negated=True),),)),
        ("[-a]", ((CharClass(((45, 45), (97, 97))),),)),
        ("[a-]", ((CharClass(((97, 97), (45, 45))),),)),
        ("[--/]", ((CharClass(((45, 47),)),),)),
        ("[\\x20-\\uFFFF]", ((CharClass(((32, 0xFFFF),)),),)),
        (".", ((AnyChar(),),)),
        ("root-2 7up", ((Reference("root-2"), Reference("7up")),)),
        ("<think>", ((Token(None, "<think>"),),)),
        ("!<[151668]>", ((Token(151668, None, is_negated=True),),)),
        ('"a"*', ((Repeat(Literal("a"), 0, None),),)),
        ('"a"+ "b"?', ((Repeat(Literal("a"), 1, None), Repeat(Literal("b"), 0, 1)),)),
        ('"a"{3}', ((Repeat(Literal("a"), 3, 3),),)),
        ('"a" { 2 , }', ((Repeat(Literal("a"), 2, None),),)),
        ('"a"{0,5}', ((Repeat(Literal("a"), 0, 5),),)),
        ('"a"{0}', ((Repeat(Literal("a"), 0, 0),),)),
        ('"a"{2}*', ((Repeat(Repeat(Literal("a"), 2, 2), 0, None),),)),
        ('("a" |\n b # c\n)+', ((Repeat(Group(((Literal("a"),), (Reference("b"),))), 1, None),),)),
        ("(())", ((Group(((Group(((),)),),)),),)),
    ],
)
def test_every_form_is_read(body: str, expected: Alternatives) -> None:
    assert root_of(f"root ::= {body}") == expected


def test_rules_come_in_the_order_of_the_text_with_their_places() -> None:
    grammar = parse("# first\n\nroot ::=\n  b |\n  c\r\n\r\n  b ::= [b]\rc ::= [c]")
    assert list(grammar.rules) == ["root", "b", "c"]
    assert [rule.place for rule in grammar.rules.values()] == [(3, 1), (7, 3), (8, 1)]
    assert grammar.rules["c"] == Rule("c", ((CharClass(((99, 99),)),),))
    assert [item.place for (item,) in grammar.rules["root"].alternatives if isinstance(item, Reference)] == [
        Place(4, 3),
        Place(5, 3),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ('root ::= "a', 1, 10, "no closing '\"'"),
        ("root ::= [a-", 1, 10, "no closing ']'"),
        ('root ::= ("a"', 1, 14, "line 1, column 10"),
        ('root ::= (\n"a"\n| (b)', 3, 6, "line 1, column 10"),
        ('root ::= "a" )', 1, 14, "the end of the line"),
        ('root ::= "a"\n\nroot2 = "b"', 3, 7, "expected '::='"),
        ('root ::= "a" _', 1, 14, "the end of the line"),
        ("root ::= under_score", 1, 15, "the end of the line"),
        ('root ::= "a"\n | "b"', 2, 2, "a rule's name"),
        ('root ::= "\\q"', 1, 11, "unknown escape"),
        ('root ::= "é\\x4"', 1, 12, "2 hexadecimal digits"),
        ('root ::= "\\U00110000"', 1, 11, "U+110000 is beyond Unicode"),
        ('root ::= "\\uDEAD"', 1, 11, "lone surrogate U+DEAD"),
        ("root ::= [z-a]", 1, 11, "U+007A to U+0061 is reversed"),
        ("root ::= []", 1, 10, "empty"),
        ("root ::= [^]", 1, 10, "empty"),
        ("root ::= *", 1, 10, "nothing that '*' could repeat"),
        ('root ::= ""*', 1, 12, "nothing that '*' could repeat"),
        ('root ::= "a"{0}*', 1, 16, "nothing that '*' could repeat"),
        ('root ::= "a" | +', 1, 16, "nothing that '+' could repeat"),
        ('root ::= "a"{3,2}', 1, 13, "at least 3 and at most 2"),
        ('root ::= "a"{2001}', 1, 14, "2001 repetitions; the limit is 2,000"),
        ('root ::= "a"{1,2001}', 1, 16, "2001 repetitions; the limit is 2,000"),
        ('root ::= "a"{99999999999999999999}', 1, 14, "99999999999999999999 repetitions"),
        ('root ::= "a"{,3}', 1, 14, "a number"),
        ('root ::= "a"{2', 1, 15, "expected '}'"),
        ('root ::= ("a"{50}){50}\n', None, None, ""),
        ('root ::= ("a"? | "b"?){0,1000}', 1, 23, "multiply to 3,000; llama.cpp's limit is 2,000"),
        ('root ::= "a"{50}{50}', 1, 17, "multiply to 2,500"),
        ("root ::= <think", 1, 10, "a token"),
        ("root ::= !think", 1, 10, "a token"),
        ("root ::= <[x]>", 1, 10, "a token's number"),
        ("root ::= <[1234567890]>", 1, 10, "more than nine digits"),
        ('root ::= "a"\nroot ::= "b"', 2, 1, "'root' is defined again; its first definition is in line 1"),
        ('root ::= "a"\n\0', 2, 1, "NUL"),
        ('root ::= "\udc80"', 1, 11, "lone surrogate"),
        ("", None, None, "no rules"),
        ("# nothing\n", None, None, "no rules"),
    ],
)
def test_a_fault_has_a_line_a_column_and_a_reason(text: str, line: int | None, column: int | None, reason: str) -> None:
    if not reason:
        parse(text)
        return
    with pytest.raises(GrammarInvalid) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert reason in caught.value.reason
    assert (f"line {line}, column {column}: " in str(caught.value)) == (line is not None)


def test_the_limits_are_reached_and_not_passed() -> None:
    nested = "root ::= " + "(" * MAX_NESTING + '"a"' + ")" * MAX_NESTING
    parse(nested)
    repeated = 'root ::= "a"' + "?" * MAX_DEPTH
    parse(repeated)
    rules = "\n".join(f"r{i} ::= [a]" for i in range(MAX_RULES))
    assert len(parse(rules).rules) == MAX_RULES
    comment = "root ::= [é] #"
    full = comment + "é" * ((MAX_BYTES - len(comment.encode())) // 2)
    parse(full)
    for text, reason in (
        (nested.replace('"a"', '("a")'), f"more than {MAX_NESTING} nested parentheses"),
        (repeated + "?", f"more than {MAX_DEPTH} deep"),
        (rules + "\nlast ::= [a]", "more than 2,000 rules"),
        (full + "éé", "the limit is 32,768"),
    ):
        with pytest.raises(GrammarInvalid, match=reason):
            parse(text)
    assert parse(full + "éé", max_bytes=MAX_BYTES + 4)


@pytest.mark.parametrize("name", library.names())
def test_the_library_is_read(name: str) -> None:
    assert "root" in parse(library.text(name), max_bytes=1 << 20).rules


@pytest.mark.parametrize("text", FEATURES)
def test_every_beginning_of_a_text_is_read_or_refused(text: str) -> None:
    for end in range(len(text)):
        try:
            assert parse(text[:end]).rules
        except GrammarInvalid as fault:
            assert fault.reason


@pytest.mark.parametrize("name", KILLERS)
def test_what_kills_llama_cpp_is_read_or_refused_at_once(name: str) -> None:
    assert fastest(lambda: parse(KILLERS[name])) < 0.1
