"""`hotseat plan`: its figures, its refusals, and that it loads nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adapters_store.installer import Installer, read_content
from engine.budget import budget_of, fitted
from engine.config import EngineConfig
from engine.model.config import read_config
from server.__main__ import cli
from server.plan import CARDS, KINDS

ROOT = Path(__file__).resolve().parents[3]
QWEN = ROOT / "bench" / "shapes" / "Qwen3-0.6B"
EXPERTS = ROOT / "adapters_store" / "experts"


def invoke(*options: str) -> Result:
    return CliRunner().invoke(cli, ["plan", *options])


def figures(*options: str) -> dict[str, Any]:
    result = invoke("--json", *options)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_table_holds_what_the_engine_would_reserve() -> None:
    found = figures("--base", str(QWEN), "--vram", "24GiB", "--experts", "7", "--context", "4096")["budget"]
    config = EngineConfig(QWEN, "cuda", "nf4", num_slots=7, max_context=4096, memory_bytes=24 << 30)
    shape = read_config(QWEN)
    budget = budget_of(fitted(config, shape), shape)
    expected = {
        name: getattr(budget, name) for name in ("weights", "slots", "kv", "step", "total", "free", "kv_tokens")
    }
    assert {name: found[name] for name in expected} == expected
    assert found["num_slots"] == 7 and found["num_contexts"] == found["kv_tokens"] // 4096


def test_a_cache_in_int8_holds_more_tokens() -> None:
    full, small = (figures("--base", str(QWEN), "--kv-dtype", kind)["budget"]["kv_tokens"] for kind in ("auto", "int8"))
    assert 1.8 * full < small < 2 * full


def test_for_people_every_part_has_a_line_and_so_has_every_expert() -> None:
    result = invoke("--base", str(QWEN))
    begins = [line.split()[0] for line in result.stdout.splitlines() if line]
    parts = ["weights", "slots", "KV", "step", "free"]
    assert [begin for begin in begins if begin in parts] == parts
    assert {path.name for path in EXPERTS.iterdir() if path.is_dir()} <= set(begins)
    assert all(kind.label in result.stdout for kind in KINDS)
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_slots_are_counted_as_they_are_and_as_their_content_would_need() -> None:
    found = figures("--base", str(QWEN), "--context", "4096")
    for card, memory in CARDS.items():
        as_they_are = found["fit"][card]
        assert as_they_are * found["budget"]["slot"] < memory
        for kind in found["kinds"]:
            assert kind["value_bytes"] < found["budget"]["slot"] and kind["would_fit"][card] > as_they_are
    assert found["fit"]["24 GB"] > found["fit"]["16 GB"] > 10


def test_as_many_slots_as_are_promised_fit_and_one_more_does_not() -> None:
    """At the same context; what is promised for 16 GB is held against a budget of 16 GB."""
    slots = figures("--base", str(QWEN), "--context", "36000")["fit"]["16 GB"]
    options = ("--base", str(QWEN), "--context", "36000", "--vram", "16GB")
    assert 0 < slots < 256
    assert figures(*options, "--experts", str(slots))["budget"]["num_contexts"] == 1
    assert invoke(*options, "--experts", str(slots + 1)).exit_code == 2


@pytest.mark.parametrize("quantization", ["nf4", "bf16", "fp32", "int8", "int4"])
def test_every_quantization_can_be_planned(quantization: str) -> None:
    found = figures("--base", str(QWEN), "--quantization", quantization)
    assert found["quantization"] == quantization
    assert found["experts"][0]["value_bytes"] == found["experts"][0]["values"] * (
        4 if quantization in ("int8", "int4", "fp32") else 2
    )


def test_experts_that_cannot_be_counted_are_listed_with_the_reason(tmp_path: Path) -> None:
    for name in ("sql", "units", "dates"):
        shutil.copytree(EXPERTS / name, tmp_path / name)
    config = json.loads((tmp_path / "sql" / "adapter_config.json").read_text())
    (tmp_path / "sql" / "adapter_config.json").write_text(json.dumps(config | {"rank_pattern": {"q_proj": 4}}))
    (tmp_path / "units" / "manifest.json").write_text("{}")
    (tmp_path / ".staging").mkdir()
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "manifest.json").write_bytes((EXPERTS / "cypher" / "manifest.json").read_bytes())
    (tmp_path / "big" / "adapter_config.json").write_text(json.dumps(config | {"r": 64}))
    found = figures("--experts-dir", str(tmp_path))
    assert [line["name"] for line in found["experts"]] == ["dates"]
    assert set(found["faults"]) == {"sql", "units", "big"}
    assert "rank_pattern" in found["faults"]["sql"] and "rank 64 is above the 32" in found["faults"]["big"]


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--vram", "24 cups"], "--vram: '24 cups' is no size"),
        (["--vram", "0"], "--vram is 0"),
        (["--vram", "1MiB"], "a memory budget of 1.0 MiB is too small: at least"),
        (["--experts", "0"], "slots (command line)"),
        (["--quantization", "int3"], "quantization (command line)"),
        (["--context", "3"], "max_context (command line)"),
        (["--base", "/nowhere/at/all"], "there is no directory /nowhere/at/all"),
        (["--base", "Qwen/Qwen3-0.6B"], "pin its commit"),
        (["--base", "Qwen/Qwen3-0.6B", "--revision", "main"], "'main' is not a commit"),
        (["--base", str(EXPERTS / "sql")], "config.json cannot be read"),
        (["--experts-dir", "/nowhere/at/all"], "no directory of experts at /nowhere/at/all"),
    ],
)
def test_wrong_input_ends_with_its_reason_and_code_2(options: list[str], fault: str) -> None:
    result = invoke(*options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert fault in result.stderr and len(result.stderr.splitlines()) == 1


def test_the_console_script_plans_without_torch_or_the_server() -> None:
    code = (
        "import sys; sys.argv = ['hotseat', 'plan', '--json']\n"
        "from server.command import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "loaded = {'torch', 'transformers', 'server.services', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["base"] == "nano"


def test_the_console_script_hands_everything_else_to_the_server() -> None:
    code = "import sys; sys.argv = ['hotseat', '--help']; from server.command import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert all(command in done.stdout for command in ("serve", "generate", "plan", "experts"))


def test_installed_experts_are_counted_as_plain_directories_are(tmp_path: Path) -> None:
    for name in ("sql", "units"):
        shutil.copytree(EXPERTS / name, tmp_path / name)
    Installer(tmp_path).install(read_content(EXPERTS / "dates"))
    Installer(tmp_path).install(read_content(EXPERTS / "units"))
    found = figures("--base", str(QWEN), "--experts-dir", str(tmp_path))
    assert [expert["name"] for expert in found["experts"]] == ["dates", "sql", "units"]
    assert found["faults"] == {}
