"""`hotseat grammar`: what it says of grammars and texts, and that it loads neither engine nor server."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from grammars import library
from server.__main__ import cli

ROOT = Path(__file__).resolve().parents[3]


def invoke(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["grammar", *arguments], input=stdin)


@pytest.fixture
def greeting(tmp_path: Path) -> str:
    path = tmp_path / "greeting.gbnf"
    path.write_text('# a word\nroot ::= "hello" | "hi " name\nname ::= [A-Z] [a-z]*\n')
    return str(path)


def test_the_list_names_every_library_grammar_with_a_sentence() -> None:
    listed = invoke("list").stdout
    assert all(f"\n{name} " in f"\n{listed}" for name in library.names())
    assert listed.count("takes a schema") == 2 and "'2024-02-29'" in listed


def test_a_good_grammar_has_its_rules_counted(greeting: str) -> None:
    result = invoke("check", greeting)
    assert (result.exit_code, result.stdout) == (0, f"{greeting}: ok, 2 rules, 61 bytes\n")


@pytest.mark.parametrize("name", library.names())
def test_every_library_grammar_passes_its_own_check(name: str) -> None:
    assert invoke("check", name).stdout.startswith(f"{name}: ok, ")


def test_a_fault_is_one_line_and_a_status(tmp_path: Path) -> None:
    path = tmp_path / "bad.gbnf"
    path.write_text("# a\nroot ::= nothing\n")
    for command in (("check",), ("try", "--text", "x")):
        result = invoke(*command, str(path))
        assert result.exit_code == 1 and result.stdout == ""
        assert result.stderr == "invalid grammar: line 2, column 10: there is no rule 'nothing'\n"


@pytest.mark.parametrize(
    ("gbnf", "fault"),
    [
        ('root ::= root "a" | "b"', "line 1, column "),
        ('root ::= ("a"*)*', "line 1, column "),
        ("root ::= " + "(" * 60_000, "the limit is 32,768"),
        ("\n".join(f'r{i} ::= r{i + 1} "a" | r{i + 1} "b"' for i in range(30)) + '\nr30 ::= "c"\nroot ::= r0', "ways"),
    ],
)
def test_what_would_hang_or_end_llama_cpp_is_refused_before_it_reads_it(tmp_path: Path, gbnf: str, fault: str) -> None:
    path = tmp_path / "bad.gbnf"
    path.write_text(gbnf)
    for command in (("check",), ("try", "--text", "x")):
        result = invoke(*command, str(path))
        assert result.exit_code == 1 and fault in result.stderr, result.stderr


def test_a_grammar_with_tokens_is_checked_and_no_text_tried_on_it(tmp_path: Path) -> None:
    path = tmp_path / "thinking.gbnf"
    path.write_text('root ::= <think> "a"\n')
    result = invoke("check", str(path))
    assert (result.exit_code, result.stdout.count("it names tokens")) == (0, 1)
    assert "line 1, column 10: it names a token here" in invoke("try", str(path), "--text", "a").stderr


def test_rules_that_nothing_needs_are_told(tmp_path: Path) -> None:
    path = tmp_path / "spare.gbnf"
    path.write_text('root ::= "a"\nspare ::= "b"\n')
    assert invoke("check", str(path)).stdout == f"{path}: ok, 2 rules, 27 bytes\n  'root' never comes to: spare\n"


def test_another_root_is_checked(greeting: str) -> None:
    assert invoke("try", greeting, "--root", "name", "--text", "Maria").exit_code == 0
    assert invoke("check", greeting, "--root", "nobody").exit_code == 1


def test_a_sentence_is_accepted(greeting: str) -> None:
    result = invoke("try", greeting, "--text", "hello")
    assert (result.exit_code, result.stdout) == (0, "accepted\n")
    assert "could go on with: 'a' to 'z', the end" in invoke("try", greeting, "--text", "hi Maria").stdout


def test_a_beginning_is_incomplete(greeting: str) -> None:
    result = invoke("try", greeting, "--text", "h")
    assert result.exit_code == 1
    assert result.stdout == "incomplete: the text is the beginning of a sentence\n  could go on with: 'ello', 'i '\n"


def test_a_text_that_leaves_the_grammar_is_shown_up_to_there(greeting: str) -> None:
    result = invoke("try", greeting, stdin="hi maria")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "refused at line 1, column 4",
        "  accepted:      'hi '",
        "  refused:       'maria'",
        "  could follow:  'A' to 'Z'",
    ]


def test_a_long_text_is_shown_around_the_fault() -> None:
    shown = invoke("try", "json", "--text", '["' + "x" * 200 + '",]' + "y" * 200).stdout
    assert "  accepted:      ... 'x" in shown and "yyy' ...\n" in shown and max(map(len, shown.splitlines())) <= 200


@pytest.mark.parametrize("text", ["CREATE TABLE a (b INT)", "CREATE TABLE a (b INT);" * 100])
def test_a_schema_in_place_of_its_file_is_told_that_a_file_is_wanted(text: str) -> None:
    told = invoke("check", "sql", "--schema", text)
    assert told.exit_code == 1
    assert told.stderr.startswith("--schema takes a file, and ") and len(told.stderr) < 120


def test_a_schema_narrows_a_library_grammar(tmp_path: Path, greeting: str) -> None:
    schema = tmp_path / "schema.sql"
    schema.write_text("CREATE TABLE singers (name TEXT, age INT);")
    narrowed = ("try", "sql", "--schema", str(schema), "--text")
    assert invoke(*narrowed, "SELECT name FROM singers;").exit_code == 0
    assert "could follow:  'ame'\n" in invoke(*narrowed, "SELECT nick FROM singers;").stdout
    assert (
        "--schema goes with a grammar of the library: cypher, "
        in invoke("check", greeting, "--schema", str(schema)).stderr
    )
    schema.write_text("CREATE TABLE singers;")
    assert invoke(*narrowed, "x").stderr.startswith("invalid schema, line 1: table 'singers' has no list")


def test_a_source_that_is_nothing_is_refused_with_what_there_is(tmp_path: Path) -> None:
    assert "is no file and none of the library: cypher, date" in invoke("check", str(tmp_path / "no.gbnf")).stderr
    (tmp_path / "large.gbnf").write_bytes(b"#" * (1 << 20) + b"\n")
    assert "has 1048577 bytes; the limit is 1048576" in invoke("check", str(tmp_path / "large.gbnf")).stderr
    (tmp_path / "latin.gbnf").write_bytes(b'root ::= "\xe9"')
    assert invoke("check", str(tmp_path / "latin.gbnf")).exit_code == 1


def test_it_loads_neither_torch_nor_the_server() -> None:
    program = (
        "import sys, server.command\n"
        "sys.argv = ['hotseat', 'grammar', 'check', 'json']\n"
        "try: server.command.main()\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'fastapi', 'tokenizers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.startswith("json: ok"), result.stderr
