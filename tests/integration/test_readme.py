"""What README.md shows is what happens."""

import json
import re
import shlex
from functools import reduce
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.__main__ import cli
from tests.integration.conftest import OpenServer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def console_examples() -> list[tuple[list[str], str]]:
    """(command, output) pairs of the ```console blocks; a command may span lines inside its quotes."""
    examples = []
    for block in re.findall(r"```console\n(.*?)```", README, re.S):
        for entry in re.split(r"^\$ ", block, flags=re.M)[1:]:
            lines = entry.split("\n")
            for count in range(1, len(lines) + 1):
                try:
                    command = shlex.split("\n".join(lines[:count]))
                except ValueError:
                    continue
                examples.append((command, "\n".join(lines[count:]).strip()))
                break
    return examples


async def test_the_first_examples_print_exactly_what_the_readme_shows(open_server: OpenServer) -> None:
    shown = [
        (command[2], output)
        for command, output in console_examples()
        if command[:2] == [".venv/bin/hotseat", "generate"]
    ]
    assert len(shown) >= 3
    async with open_server() as client:
        for prompt, output in shown:
            assert (await client.generate(prompt))["text"] == output


def curl_examples() -> list[tuple[list[str], str]]:
    return [(c, o) for c, o in console_examples() if c[0] == "curl" and "/generate" in " ".join(c)]


async def test_the_curl_example_replies_as_shown_but_for_id_and_timings(open_server: OpenServer) -> None:
    [(command, output)] = [(c, o) for c, o in curl_examples() if "|" not in c]
    body = json.loads(command[command.index("-d") + 1])
    async with open_server() as client:
        reply = await client.generate(**body)
    expected = json.loads(output)
    for varying in ("id", "timings"):
        assert reply.pop(varying).__class__ is expected.pop(varying).__class__
    routing, shown = reply.pop("routing"), expected.pop("routing")
    numbers = {**shown.pop("scores"), "confidence": shown.pop("confidence")}
    assert {**routing.pop("scores"), "confidence": routing.pop("confidence")} == pytest.approx(numbers, abs=0.01)
    assert (reply, routing) == (expected, shown)


def test_the_grammar_command_prints_exactly_what_the_readme_shows() -> None:
    shown = [(c, o) for c, o in console_examples() if c[:2] == [".venv/bin/hotseat", "grammar"]]
    assert shown
    for command, output in shown:
        assert CliRunner().invoke(cli, command[1:]).stdout.strip() == output


async def test_the_grammars_of_the_examples_give_the_answers_that_are_shown(open_server: OpenServer) -> None:
    shown = [(command, output) for command, output in curl_examples() if "|" in command]
    assert len(shown) >= 3
    async with open_server() as client:
        for command, output in shown:
            response = await client.http.post("/generate", json=json.loads(command[command.index("-d") + 1]))
            keys = command[-1].strip(".").split(".")
            assert reduce(lambda part, key: part[key], keys, response.json()) == json.loads(output)


def test_the_plan_prints_exactly_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    [(command, output)] = [(c, o) for c, o in console_examples() if c[:2] == [".venv/bin/hotseat", "plan"]]
    assert CliRunner().invoke(cli, command[1:]).stdout.strip() == output
