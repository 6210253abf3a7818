"""`hotseat keys`: the key is shown once, the list shows what it may do, a revoked one is gone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapters_store.installer import Installer
from server.__main__ import cli
from server.keys import KeyFile, KeyRefused
from tests.fakes import write_expert


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def keys(*arguments: str, file: Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli, ["keys", *arguments, "--file", str(file)], env={"COLUMNS": "200"})
    return result.exit_code, result.stdout, result.stderr


def test_a_key_is_printed_alone_and_opens_what_was_asked_for(file: Path) -> None:
    code, token, notice = keys("add", "ci", "--scope", "metrics", "--expert", "sql", "--max-concurrent", "2", file=file)
    caller = KeyFile(file).caller(token.removesuffix("\n"))
    assert (code, caller.scopes, caller.experts, caller.max_concurrent) == (
        0,
        frozenset({"metrics"}),
        frozenset({"sql"}),
        2,
    )
    assert str(file) in notice.replace("\n", "")


def test_a_key_generates_unless_something_else_is_asked_for(file: Path) -> None:
    _, token, _ = keys("add", "ci", file=file)
    assert KeyFile(file).caller(token.strip()).scopes == {"generate"}


def test_the_list_never_shows_what_would_open_anything(file: Path) -> None:
    _, token, _ = keys("add", "ci", file=file)
    _, table, _ = keys("list", file=file)
    _, data, _ = keys("list", "--json", file=file)
    assert "ci" in table and "generate" in table
    (entry,) = json.loads(data)
    assert set(entry) == {"id", "name", "scopes", "experts", "max_concurrent", "created"}
    assert token.split("_", 2)[2].strip() not in table + data


def test_a_revoked_key_is_gone(file: Path) -> None:
    _, token, _ = keys("add", "ci", file=file)
    assert keys("revoke", "ci", file=file)[0] == 0
    with pytest.raises(KeyRefused):
        KeyFile(file).caller(token.strip())
    assert keys("revoke", "ci", file=file)[0] == 2


def test_a_list_for_a_program_holds_whole_values(file: Path) -> None:
    names = [f"expert-{number:02}" for number in range(20)]
    keys("add", "ci", *(word for name in names for word in ("--expert", name)), file=file)
    result = CliRunner().invoke(cli, ["keys", "list", "--file", str(file)], env={"COLUMNS": "80"})
    assert ", ".join(names) in result.stdout


def test_a_key_for_an_expert_that_is_not_there_is_made_with_a_warning(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSEAT_STORE__EXPERTS", str(tmp_path))
    write_expert(tmp_path, "sql")
    Installer(tmp_path).alias("tables", "sql")
    given = ("--expert", "sql", "--expert", "tables", "--expert", "nope")
    code, token, notice = keys("add", "ci", *given, file=file)
    assert (code, KeyFile(file).caller(token.removesuffix("\n")).experts) == (0, frozenset({"sql", "tables", "nope"}))
    assert "there is no expert 'nope' yet" in notice and "'sql'" not in notice and "'tables'" not in notice


def test_an_unknown_scope_is_refused_with_those_there_are(file: Path) -> None:
    code, _, error = keys("add", "ci", "--scope", "root", file=file)
    assert code == 2
    assert "generate, metrics, admin" in error
    assert not file.exists()


def test_a_command_without_a_file_asks_for_one() -> None:
    result = CliRunner().invoke(cli, ["keys", "list"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "--file" in result.stderr


def test_keys_are_listed_without_loading_the_server(file: Path) -> None:
    keys("add", "ci", file=file)
    code = (
        f"import sys; sys.argv = ['hotseat', 'keys', 'list', '--json', '--file', {str(file)!r}]\n"
        "from server.command import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    sys.exit(end.code or ('torch' in sys.modules or 'fastapi' in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)[0]["name"] == "ci"
