"""`hotseat config show`: each value with its origin, and never a secret."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.__main__ import cli
from server.settings import Settings


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    (tmp_path / "hotseat.toml").write_text("[engine]\nslots = 3\n")
    monkeypatch.setenv("HOTSEAT_CONFIG", str(tmp_path / "hotseat.toml"))
    monkeypatch.setenv("HOTSEAT_SERVER__PORT", "9001")
    monkeypatch.setenv("HOTSEAT_CLIENT__API_KEY", "hs_my-secret")
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner()


def test_each_setting_is_shown_with_its_origin(run: CliRunner, tmp_path: Path) -> None:
    result = run.invoke(cli, ["config", "show", "--json"])
    shown = json.loads(result.stdout)
    assert len(shown) == len(Settings.model_fields)
    assert shown["server.port"] == {"value": 9001, "origin": "HOTSEAT_SERVER__PORT"}
    assert shown["engine.slots"] == {"value": 3, "origin": str(tmp_path / "hotseat.toml")}
    assert shown["server.host"] == {"value": "127.0.0.1", "origin": "default"}


def test_a_secret_is_never_shown(run: CliRunner) -> None:
    for arguments in (["--json"], []):
        result = run.invoke(cli, ["config", "show", *arguments])
        assert result.exit_code == 0
        assert "my-secret" not in result.output
        assert "client.api_key" in result.output and "**" in result.output


def test_a_faulty_configuration_is_an_error(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "hotseat.toml").write_text("[engine]\nslot = 3\n")
    result = run.invoke(cli, ["config", "show"])
    assert result.exit_code == 2
    assert "did you mean engine.slots" in result.stderr.replace("\n", " ")


def test_the_server_reads_the_file_that_it_is_given(run: CliRunner, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[server]\nprot = 3\n")
    result = run.invoke(cli, ["serve", "--config", str(tmp_path / "bad.toml")])
    assert result.exit_code == 2
    assert "server.prot" in result.stderr


def test_the_configuration_is_shown_without_loading_the_server() -> None:
    code = (
        "import sys; sys.argv = ['hotseat', 'config', 'show', '--json']\n"
        "from server.command import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    sys.exit(end.code or ('torch' in sys.modules or 'fastapi' in sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)["server.port"]["value"] == 8000
