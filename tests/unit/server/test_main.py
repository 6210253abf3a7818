"""The command line: what it prints, and what it says when it cannot."""

import json
import os
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from server import __version__, command
from server.__main__ import _print_welcome, cli, welcome_lines
from server.keys import KeyFile
from server.services import Services
from server.settings import Settings
from tests.fakes import make_services
from tests.live import live_server


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A runner whose environment points to nothing that exists."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        unused = listener.getsockname()[1]
    given = {"SERVER__PORT": unused, "MODEL__BASE": tmp_path / "no-base", "STORE__EXPERTS": tmp_path / "none"}
    for name, value in given.items():
        monkeypatch.setenv(f"HOTSEAT_{name}", str(value))
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def test_help_lists_the_commands(run: CliRunner) -> None:
    result = run.invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert all(command in result.output for command in ("serve", "generate", "experts"))


def test_the_version_is_the_packages_with_and_without_the_server(
    run: CliRunner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.invoke(cli, ["--version"]).output == f"{__version__}\n"
    monkeypatch.setattr(sys, "argv", ["hotseat", "--version"])
    command.main()
    assert capsys.readouterr().out == f"{__version__}\n"
    assert "--version" in run.invoke(cli, ["--help"]).output


def test_the_experts_on_disk_are_listed_and_so_is_what_is_broken(run: CliRunner, experts_dir: Path) -> None:
    (experts_dir / "free" / "manifest.json").write_text("{}")
    result = run.invoke(cli, ["experts", "list", "--experts", str(experts_dir)])
    assert result.exit_code == 0
    assert "Does sql." in result.output
    assert "schema_version" in result.output


def test_a_directory_of_experts_that_is_not_there_is_named(run: CliRunner) -> None:
    result = run.invoke(cli, ["experts", "list"])
    assert result.exit_code == 1
    assert "none" in result.stderr


def test_a_bad_setting_is_named_with_its_variable(run: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSEAT_SERVER__PORT", "many")
    result = run.invoke(cli, ["experts", "list"])
    assert result.exit_code == 2
    assert "HOTSEAT_SERVER__PORT" in result.stderr


def test_a_bad_option_is_refused_before_anything_is_loaded(run: CliRunner) -> None:
    result = run.invoke(cli, ["serve", "--device", "tpu"])
    assert result.exit_code == 2
    assert "device" in result.stderr


def test_serving_without_a_base_ends_with_the_reason(run: CliRunner) -> None:
    result = run.invoke(cli, ["serve"])
    assert result.exit_code == 1
    assert "no-base" in result.stderr
    assert "ready" not in result.stdout


def test_serving_a_directory_without_a_model_ends_with_the_reason(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    result = run.invoke(cli, ["serve", "--base", str(tmp_path / "docs")])
    assert result.exit_code == 1
    assert "config.json" in result.stderr and "Traceback" not in result.stderr


def test_serving_on_a_port_in_use_ends_at_once(run: CliRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = run.invoke(cli, ["serve", "--port", str(listener.getsockname()[1])])
    assert result.exit_code == 1
    assert "cannot listen" in result.stderr
    assert "no-base" not in result.stderr  # nothing was loaded


def test_serving_strangers_without_keys_is_refused_before_anything_is_loaded(run: CliRunner) -> None:
    result = run.invoke(cli, ["serve", "--host", "0.0.0.0"])
    assert result.exit_code == 1
    assert "--insecure-bind" in result.stderr and "no-base" not in result.stderr
    forced = run.invoke(cli, ["serve", "--host", "0.0.0.0", "--insecure-bind"])
    assert "no-base" in forced.stderr


def test_serving_with_a_useless_file_of_keys_is_refused(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(cli, ["serve", "--keys-file", str(tmp_path / "nothing.json")])
    assert result.exit_code == 1
    assert "nothing.json" in result.stderr.replace("\n", "") and "no-base" not in result.stderr


def test_a_prompt_is_sent_with_the_key_that_is_set(
    run: CliRunner, experts_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    token = keys.add("me", ["generate"])
    with live_server(make_services(experts_dir), Settings(keys_file=keys.path, drain_seconds=5)) as port:
        monkeypatch.setenv("HOTSEAT_SERVER__PORT", str(port))
        refused = run.invoke(cli, ["generate", "count in SQL"])
        monkeypatch.setenv("HOTSEAT_CLIENT__API_KEY", token)
        answered = run.invoke(cli, ["generate", "count in SQL"])
    assert (refused.exit_code, answered.exit_code) == (1, 0)
    assert "API key" in refused.stderr
    assert answered.stdout == "sql: count in SQL\n"


def test_a_prompt_goes_to_the_server_that_runs(
    run: CliRunner, experts_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_server(make_services(experts_dir)) as port:
        monkeypatch.setenv("HOTSEAT_SERVER__PORT", str(port))
        plain = run.invoke(cli, ["generate", "count in SQL"])
        whole = run.invoke(cli, ["generate", "hi", "--expert", "json", "--max-tokens", "6", "--json"])
        refused = run.invoke(cli, ["generate", "hi", "--expert", "poet"])
    assert (plain.exit_code, plain.stdout) == (0, "sql: count in SQL\n")
    assert "sql" in plain.stderr
    reply = json.loads(whole.stdout)
    assert (reply["text"], reply["finish_reason"]) == ("json: ", "length")
    assert refused.exit_code == 1
    assert "poet" in refused.stderr


def test_a_prompt_without_a_server_and_without_a_base_ends_with_the_reason(run: CliRunner) -> None:
    result = run.invoke(cli, ["generate", "hi"])
    assert result.exit_code == 1
    assert "no-base" in result.stderr


def test_the_welcome_shows_a_command_that_can_be_pasted(services: Services) -> None:
    ready, curl = welcome_lines(Settings(port=8001), services)
    assert ready.endswith("http://127.0.0.1:8001")
    command = shlex.split(curl)
    assert command[:3] == ["curl", "-s", "http://127.0.0.1:8001/generate"]
    assert json.loads(command[-1]) == {"prompt": "In SQL: count the singers"}


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::", "http://[::1]:8000"), ("10.1.2.3", "http://10.1.2.3:8000")],
)
def test_the_welcome_names_an_address_that_a_client_can_reach(host: str, url: str, services: Services) -> None:
    ready, _ = welcome_lines(Settings(host=host), services)
    assert ready.endswith(url)
    assert httpx.URL(url).port == 8000


def test_the_welcome_says_where_the_memory_goes(services: Services, capsys: pytest.CaptureFixture[str]) -> None:
    _print_welcome(Settings(), replace(services, memory="weights 1.0 MiB · free 2.0 MiB"))
    assert "Memory: weights 1.0 MiB · free 2.0 MiB\n" in capsys.readouterr().out
    _print_welcome(Settings(), services)
    assert "Memory" not in capsys.readouterr().out


def test_a_prompt_that_a_server_answers_loads_no_room(experts_dir: Path) -> None:
    """The rooms take seconds, and this is the first command that people type."""
    code = (
        "import sys\nfrom server.command import main\n"
        "sys.argv = ['hotseat', 'generate', 'count in SQL']\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    sys.exit(end.code or ('torch' in sys.modules or 'fastapi' in sys.modules))"
    )
    with live_server(make_services(experts_dir)) as port:
        environment = {**os.environ, "HOTSEAT_SERVER__PORT": str(port)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (0, "sql: count in SQL\n"), run.stderr
