"""Whatever the TypeScript grammar lets end, tree-sitter parses as declarations and nothing else."""

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

DECLARATIONS = {"interface_declaration", "type_alias_declaration", "function_declaration", "function_signature"}

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
    assert root.children and {child.type for child in root.children} <= DECLARATIONS, source


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
def test_members_of_every_form_are_sentences(grammar: CompiledGrammar, pieces: Pieces, member: str) -> None:
    source = f"interface Person_2 {{\n  {member};\n  age: number;\n}}"
    assert is_sentence(grammar.matcher(), spell(pieces, source.encode()))
    assert_parses(source)


@pytest.mark.parametrize(
    "source",
    [
        "interface Box<T> extends Base, Geo.Shape<T> {\n  value: T;\n}",
        "type Status = 'new' | \"done\" | 3 | -1.5 | true;",
        "type Tree<K, V> = {\n  key: K;\n  readonly left?: Tree<K, V>;\n};",
        "type Table = Record<string, Array<Row | null>[]> | Map<number, Set<string>>;",
        "function area(width: number, height?: number): number;",
        "function log(): void {\n  return;\n}",
        "function firstOf<T>(items: T[], or: T): T {\n  const found: T = items[0];\n"
        "  if (found === undefined || !items.length) return or;\n  console.log('x', found);\n  return found ?? or;\n}",
        "function make(a: string): Person {\n  const n = a.length * 2 + -1;\n  const all = [a, 'b', null];\n"
        "  return { name: a.trim().toLowerCase(), age: n };\n}",
        "interface A {\n  a: string;\n}\n\ntype B = A[];\n\nfunction f(b: B): A {\n  return b[0];\n}",
    ],
)
def test_declarations_of_every_kind_are_sentences(grammar: CompiledGrammar, pieces: Pieces, source: str) -> None:
    assert is_sentence(grammar.matcher(), spell(pieces, source.encode()))
    assert_parses(source)


def test_the_last_declaration_that_fits_ends_by_itself(grammar: CompiledGrammar, pieces: Pieces) -> None:
    matcher = grammar.matcher()
    assert feed(matcher, spell(pieces, "\n\n".join(["type A = string;"] * 8).encode()))
    assert matcher.must_stop
    matcher.close()


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
        "type A = string",
        "type A = string;\ntype B = A;",
        "type a = string;",
        "const a = 1;",
        "function f() {\n  return;\n}",
        "function f(): void {}",
        "function class(): void;",
        "function f(new: string): void;",
        "function f(): void {\n  eval('x')\n  return;\n}",
        "function f(): void {\n  const a = b = 1;\n  return;\n}",
        "function f(): A {\n  return a ?? b || c;\n}",
        "function f(): A {\n  return (() => 1)();\n}",
        "import a from 'b';",
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
                "a: Array<>",
                "a: Array<string",
                "a: array<string>",
                "a: { b: string }",
                "a(): void",
                "[key: string]?: string",
                "[key: boolean]: string",
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
        [
            "",
            "interface A {\n  ",
            "interface A {\n  readonly ",
            "interface A {\n  a: ",
            'interface A {\n  a: ("',
            "type A = ",
            "type A<B> = Array<",
            "function f(",
            "function f(): void {\n  ",
            "function f(): void {\n  const a = ",
            "function f(): void {\n  if (",
        ]
    ),
)
def test_a_random_walk_ends_in_declarations(
    grammar: CompiledGrammar, vocabulary: Vocabulary, pieces: Pieces, seed: int, prefix: str
) -> None:
    assert_parses(walked(grammar, vocabulary, pieces, seed, prefix, closers=b"};'\"\n)]>"))


@pytest.mark.parametrize("word", KEYWORDS)
def test_a_keyword_names_a_member(grammar: CompiledGrammar, pieces: Pieces, word: str) -> None:
    source = f"interface A {{\n  {word}: string;\n  {word}?: number;\n  readonly {word}: Date;\n  a: null;\n}}"
    assert is_sentence(grammar.matcher(), spell(pieces, source.encode()))
    assert_parses(source)


def test_a_keyword_that_names_a_variable_is_harmless_there(grammar: CompiledGrammar, pieces: Pieces) -> None:
    source = (
        "function {0}({0}: string, a: number): void {{\n  const b = {0}.{0};\n  {0};\n  {0}(1);\n"
        "  if ({0} < {0}) return {0};\n  return [{0}, {0}];\n}}"
    )
    words = {word: is_sentence(grammar.matcher(), spell(pieces, source.format(word).encode())) for word in KEYWORDS}
    assert {"from", "type", "string", "of"} < {word for word, is_free in words.items() if is_free}
    assert not {"class", "return", "await", "let", "null"} & {word for word, is_free in words.items() if is_free}
    for word, is_free in words.items():
        if is_free:
            assert_parses(source.format(word))
