"""`hotseat grammar`: list the library, check a grammar, try a text on one. Loads neither the base nor the server.

A grammar is a file of GBNF or the name of a library grammar; of both, the library's name wins. A file is held to what a
request's grammar is held to. Texts are read with a vocabulary of bytes, so the answers hold for any base; no text can
be tried on a grammar that names tokens, such as `<think>`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from grammars import admission, growth, library
from grammars.admission import Admitted
from grammars.byte_vocabulary import byte_vocabulary
from grammars.compiler import CompiledGrammar, GrammarCompiler
from grammars.errors import GrammarError, GrammarInvalid
from grammars.explain import Explanation, explain
from grammars.gbnf import MAX_BYTES

_MAX_FILE_BYTES: Final = 1 << 20
_SHOWN: Final = 60
"""Characters of the text before and after the place of a fault."""

grammar_cli = typer.Typer(help="Grammars: list, check, try.", no_args_is_help=True, add_completion=False)

Source = Annotated[str, typer.Argument(metavar="FILE", help="A file of GBNF, or the name of a library grammar.")]
Root = Annotated[str, typer.Option(help="The rule to start from.")]
SchemaFile = Annotated[Path | None, typer.Option(help="Tables or a graph that a library grammar is narrowed to.")]


@grammar_cli.command("list")
def list_grammars() -> None:
    """The grammars of the library, each with a sentence of it."""
    for grammar in library.catalogue():
        schema = " (takes a schema)" if grammar.takes_schema else ""
        sys.stdout.write(f"{grammar.name:<12}{grammar.description}{schema}\n{'':<12}{_shown(grammar.examples[0])}\n")


@grammar_cli.command()
def check(source: Source, root: Root = "root", schema: SchemaFile = None) -> None:
    """Say whether a grammar can be used: its rules and size, or its fault."""
    with _failing_shortly():
        gbnf = _read(source, schema)
        admitted = _admitted(source, gbnf, root)
        growth.check(admitted)
        tokens = admitted.lowered.tokens()
        if not tokens:
            with byte_vocabulary() as vocabulary:
                GrammarCompiler(vocabulary).compile(gbnf, root)
    sys.stdout.write(f"{source}: ok, {len(admitted.grammar.rules)} rules, {len(gbnf.encode()):,} bytes\n")
    if tokens:
        sys.stdout.write("  it names tokens: whether a base has them is only known there\n")
    if admitted.unreachable:
        sys.stdout.write(f"  {root!r} never comes to: {', '.join(admitted.unreachable)}\n")


@grammar_cli.command("try")
def try_text(
    source: Source,
    text: Annotated[str | None, typer.Option(help="The text; - or none reads it from standard input.")] = None,
    root: Root = "root",
    schema: SchemaFile = None,
) -> None:
    """Say whether a text is a sentence of a grammar, else where it stops being one and what could follow there."""
    with _failing_shortly():
        gbnf = _read(source, schema)
        if tokens := _admitted(source, gbnf, root).lowered.tokens():
            raise GrammarInvalid(
                "it names a token here, and a text has none before a base reads it",
                *min(token.place for token in tokens),
            )
        tried = sys.stdin.read() if text in (None, "-") else str(text)
        with byte_vocabulary() as vocabulary:
            compiled: CompiledGrammar = GrammarCompiler(vocabulary).compile(gbnf, root)
            found = explain(compiled, tried)
    sys.stdout.write("\n".join(lines(found)) + "\n")
    if not found.is_sentence:
        raise typer.Exit(1)


def lines(found: Explanation) -> list[str]:
    """The explanation for people."""
    if found.is_sentence:
        return ["accepted", *([f"  and could go on with: {_options(found)}"] if found.next else [])]
    if not found.refused:
        return ["incomplete: the text is the beginning of a sentence", f"  could go on with: {_options(found)}"]
    return [
        f"refused at line {found.line}, column {found.column}",
        f"  accepted:      {_shown(found.accepted, from_end=True)}",
        f"  refused:       {_shown(found.refused)}",
        f"  could follow:  {_options(found)}",
    ]


def _options(found: Explanation) -> str:
    """Single letters as ranges, longer continuations one by one."""
    runs = [repr(option) for option in found.next if len(option) > 1]
    letters = _ranges([option for option in found.next if len(option) == 1])
    beyond = ["letters beyond ASCII"] if found.next_beyond_ascii else []
    end = ["the end"] if found.may_end else []
    return ", ".join([*runs, *letters, *beyond, *end]) or "nothing"


def _ranges(letters: list[str]) -> list[str]:
    """a, b, c, d as 'a' to 'd'."""
    runs: list[list[str]] = []
    for letter in sorted(letters):
        if runs and ord(letter) == ord(runs[-1][-1]) + 1 and letter.isalnum() == runs[-1][-1].isalnum():
            runs[-1].append(letter)
        else:
            runs.append([letter])
    named = [[f"{run[0]!r} to {run[-1]!r}"] if len(run) > 2 else [repr(letter) for letter in run] for run in runs]
    return [name for names in named for name in names]


def _shown(text: str, from_end: bool = False) -> str:
    if len(text) <= _SHOWN:
        return repr(text)
    return f"... {text[-_SHOWN:]!r}" if from_end else f"{text[:_SHOWN]!r} ..."


def _read(source: str, schema: Path | None) -> str:
    """Raises GrammarError, or OSError and ValueError for a file that cannot be read."""
    if schema is not None and not os.path.exists(schema):
        raise ValueError(f"--schema takes a file, and {_shown(str(schema))} is none")
    if source in library.names():
        return library.text(source) if schema is None else library.build(source, _file(schema))
    if schema is not None:
        raise ValueError(f"--schema goes with a grammar of the library: {', '.join(library.names())}")
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{source} is no file and none of the library: {', '.join(library.names())}")
    return _file(path)


def _admitted(source: str, gbnf: str, root: str) -> Admitted:
    """Raises GrammarInvalid with line and column."""
    return admission.admit(gbnf, root, library.MAX_BUILT_BYTES if source in library.names() else MAX_BYTES)


def _file(path: Path) -> str:
    if (size := path.stat().st_size) > _MAX_FILE_BYTES:
        raise ValueError(f"{path} has {size} bytes; the limit is {_MAX_FILE_BYTES}")
    return path.read_text(encoding="utf-8")


@contextmanager
def _failing_shortly() -> Iterator[None]:
    """A fault is one line and status 1."""
    try:
        yield
    except (GrammarError, OSError, ValueError) as fault:
        sys.stderr.write(f"{fault}\n")
        raise typer.Exit(1) from None


def main() -> None:
    """The command alone, for the console script."""
    grammar_cli(sys.argv[2:], prog_name="hotseat grammar")


if __name__ == "__main__":
    main()
