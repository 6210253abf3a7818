"""Whatever the TypeScript grammar lets end, tree-sitter parses as one interface declaration."""

import pytest
import tree_sitter_typescript
from hypothesis import given, settings
from hypothesis import strategies as st
from tree_sitter import Language, Parser

from grammars import library
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.vocabulary import Vocabulary
from tests.unit.grammars.walks import answers, feed, is_sentence, spell, walked

Pieces = dict[int, bytes]

PARSER = Parser(Language(tree_sitter_typescript.language_typescript()))

# TypeScript's reserved and contextual words. `abstract` is one too and the compiler takes it as a member's name, which
# tree-sitter does not.
KEYWORDS = """accessor any as asserts async await bigint boolean break case catch class const constructor continue
debugger declare default delete do else enum export extends false finally for from function get global if
implements import in infer instanceof interface intrinsic is keyof let module namespace never new null number
object of out override package private protected public readonly require return satisfies set static string
super switch symbol this throw true try type typeof undefined unique unknown using var void while with
yield""".split()


@pytest.fixture(scope="module")
def grammar(compiler: GrammarCompiler) -> CompiledGrammar:
    return compiler.compile(library.text("typescript"))


def assert_parses(source: str) -> None:
    root = PARSER.parse(source.encode()).root_node
    assert not root.has_error, source
    assert [child.type for child in root.children] == ["interface_declaration"], source


def test_every_answer_of_the_expert_is_a_sentence(grammar: CompiledGrammar, pieces: Pieces) -> None:
    for source in answers("typescript"):
        assert is_sentence(grammar.matcher(), spell(pieces, source.encode())), source


@pytest.mark.parametrize(
    "member",
    [
        "name: string",
        "readonly birthDate?: Date",
        "tags: string[]",
        "grid: number[][]",
        "ids: (string | number)[] | null",
        'status: "new" | \'in progress\' | "it\'s"',
        "home: Address | Geo.Point[] | undefined",
        "_id: bigint",
        "$ref: unknown",
        "class: boolean",
        "readonly readonly?: string",
        "label: 'São // */ }'",
    ],
)
def test_the_wider_forms_are_sentences_that_end_by_themselves(
    grammar: CompiledGrammar, pieces: Pieces, member: str
) -> None:
    source = f"interface Person_2 {{\n  {member};\n  age: number;\n}}"
    matcher = grammar.matcher()
    assert feed(matcher, spell(pieces, source.encode()))
    assert matcher.must_stop
    assert_parses(source)


@pytest.mark.parametrize(
    "source",
    [
        "interface A {\n}",
        "interface A {\n  a: string;\n}\n",
        "interface A {\n  a: string;\n}\ninterface B {\n  b: string;\n}",
        "interface A {\n  a: string;\n} alert(1)",
        "interface string {\n  a: string;\n}",
        "interface 1A {\n  a: string;\n}",
        "interface A{\n  a: string;\n}",
        "export interface A {\n  a: string;\n}",
        "type A = string;",
        "class A {\n  a: string;\n}",
        "```\ninterface A {\n  a: string;\n}\n```",
        *(
            f"interface A {{\n  {member};\n}}"
            for member in [
                "a:string",
                "a : string",
                "a: string, b: string",
                "a: string |",
                "a: | string",
                "a: foo",
                "a: string[][][]",
                "a: (string)[]",
                "a: string?",
                "a?: string = 1",
                "a: Array<string>",
                "a: { b: string }",
                "a(): void",
                "[key: string]: string",
                "1a: string",
                "first-name: string",
                "a: 'x",
                "a: 'it's'",
                "a: 'x\\'",
                "a: '\\u0027'",
                "a: 'x\ny'",
                'a: "x"y"',
                "a: `x`",
                "a: '" + "x" * 33 + "'",
                "a: string" + " | string" * 6,
                "x" * 33 + ": string",
                " a: string",
                "\ta: string",
            ]
        ),
        "interface A {\n" + "  a: string;\n" * 25 + "}",
    ],
)
def test_anything_else_is_refused(grammar: CompiledGrammar, pieces: Pieces, source: str) -> None:
    assert not is_sentence(grammar.matcher(), spell(pieces, source.encode()))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    prefix=st.sampled_from(
        ["", "interface A {\n  ", "interface A {\n  readonly ", "interface A {\n  a: ", 'interface A {\n  a: ("']
    ),
)
def test_a_random_walk_ends_in_one_interface(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    assert_parses(walked(grammar, vocabulary, pieces, seed, prefix, closers=b"};'\"\n"))


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_keyword_names_a_member(grammar: CompiledGrammar, pieces: Pieces, word: str) -> None:
    source = f"interface A {{\n  {word}: string;\n  {word}?: number;\n  readonly {word}: Date;\n  a: null;\n}}"
    assert is_sentence(grammar.matcher(), spell(pieces, source.encode()))
    assert_parses(source)
