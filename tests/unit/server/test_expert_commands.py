"""`hotseat experts`: every command against a catalogue of its own, with packages for the embedded base."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console
from typer.testing import CliRunner, Result

from adapters_store.files import digest_of
from adapters_store.manifest import README_FILE, SIGNATURE_FILE, WEIGHTS_FILE
from adapters_store.package import MANIFEST_FILE, read_package, write_package
from adapters_store.policy import LENIENT
from adapters_store.store import AdapterStore
from server.expert_commands import experts_cli
from server.expert_views import list_table
from server.settings import Settings
from tests.fakes import OTHER_FINGERPRINT, make_services, write_expert
from tests.live import live_server
from tests.unit.adapters_store.archives import saved, tar_of
from tests.unit.adapters_store.packages import lora_files

EMBEDDED = Path(__file__).resolve().parents[3] / "adapters_store" / "experts"
KEY = "a key for nobody"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty catalogue, which the settings name."""
    root = tmp_path / "catalogue"
    root.mkdir()
    monkeypatch.setenv("HOTSEAT_STORE__EXPERTS", str(root))
    monkeypatch.setenv("COLUMNS", "200")
    return root


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A whole package for the embedded base, in a directory whose name says nothing."""
    return Path(shutil.copytree(EMBEDDED / "units", tmp_path / "Some Package"))


def invoke(*words: object) -> Result:
    return CliRunner().invoke(experts_cli, [str(word) for word in words])


def data(*words: object) -> Any:
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*words: object, exit_code: int = 1) -> str:
    """The code of the refusal."""
    result = invoke(*words, "--json")
    assert result.exit_code == exit_code, result.output
    error = json.loads(result.stdout)["error"]
    assert error["message"]
    return str(error["code"])


def reworded(package: Path, text: bytes) -> None:
    """Another generation of the package: its README changes."""
    manifest = read_package(EMBEDDED / "units").manifest
    files = {entry.name: (EMBEDDED / "units" / entry.name).read_bytes() for entry in manifest.files}
    staged = package.with_name("units")
    write_package(staged, manifest, {**files, README_FILE: text})
    shutil.rmtree(package)
    staged.rename(package)


def test_a_package_is_added_listed_shown_and_removed(package: Path) -> None:
    added = data("add", package)
    assert (added["name"], added["previous"]) == ("units", None)
    [listed] = data("list")
    assert listed["generation"] == added["generation"]
    assert (listed["kind"], listed["signature"], listed["installed"]) == ("lora", "unsigned", True)
    assert {entry["name"] for entry in data("show", "units")["files"]} >= {WEIGHTS_FILE}
    assert "Converts a metric quantity" in invoke("list").stdout
    assert added["generation"] in invoke("show", "units").stdout
    assert data("remove", "units") == {"removed": "units"}
    assert data("list") == []


def test_show_says_what_storage_in_fewer_bits_would_cost(package: Path, tmp_path: Path) -> None:
    data("add", package)
    storage = data("show", "units")["storage"]
    assert storage["plain"]["bytes"] > storage["int8"]["bytes"] > storage["int4"]["bytes"]
    assert storage["plain"]["error"] == 0 < storage["int8"]["error"] < 0.01 < storage["int4"]["error"] < 0.1
    assert set(storage["int4"]["error_by_module"]) >= {"q_proj", "down_proj"}
    shown = invoke("show", "units").stdout
    assert f"error {storage['int8']['error']:.2%}: " in shown and "as it is in a slot" in shown
    assert "is no directory here" in data("show", "units", "--base", tmp_path / "gone")["storage"]["fault"]


def test_show_says_why_storage_is_not_measured(root: Path) -> None:
    write_expert(root, "odd")
    (root / "broken").mkdir()
    assert "belongs to no linear layer of this base" in data("show", "odd")["storage"]["fault"]
    assert data("show", "broken")["storage"] == {"fault": "the package is broken"}
    assert "not measured" in invoke("show", "odd").stdout


def test_what_is_there_is_not_added_again_but_replaced_and_swapped_back(package: Path) -> None:
    first = data("add", package)["generation"]
    reworded(package, b"# Second")
    assert refused("add", package) == "expert_exists"
    assert "`hotseat experts replace units PACKAGE`" in invoke("add", package).stderr
    second = data("replace", "units", package, "--expect", first)
    assert second["previous"] == first
    assert refused("replace", "units", package, "--expect", first) == "generation_conflict"
    assert data("replace", "units")["generation"] == first
    assert data("show", "units")["standby"] == second["generation"]


def test_an_expert_is_replaced_by_its_own_name_or_alias_alone(package: Path) -> None:
    data("add", package)
    data("alias", "metric", "units")
    reworded(package, b"# Second")
    assert data("replace", "metric", package)["name"] == "units"
    assert refused("replace", "units", EMBEDDED / "sql") == "name_mismatch"
    assert refused("replace", "sql", EMBEDDED / "sql") == "expert_not_found"


def test_aliases_and_pins_show_and_go(package: Path) -> None:
    data("add", package)
    data("alias", "metric", "units")
    assert data("pin", "metric") == {"name": "metric", "pinned": True}
    assert (data("show", "metric")["aliases"], data("show", "metric")["pinned"]) == (["metric"], True)
    assert "units (metric) · pinned" in invoke("list").stdout
    data("unpin", "units")
    data("remove", "metric")
    assert (data("show", "units")["aliases"], data("show", "units")["pinned"]) == ([], False)
    assert refused("pin", "metric") == "expert_not_found"


def test_a_package_for_another_base_comes_in_only_on_demand(tmp_path: Path) -> None:
    write_expert(tmp_path, "foreign", base=OTHER_FINGERPRINT)
    assert refused("add", tmp_path / "foreign") == "base_mismatch"
    assert data("add", tmp_path / "foreign", "--any-base")["name"] == "foreign"


def test_a_peft_directory_and_an_archive_are_imported(tmp_path: Path) -> None:
    bare = tmp_path / "My-Adapter"
    bare.mkdir()
    for name, content in lora_files().items():
        (bare / name).write_bytes(content)
    (bare / "training_args.bin").write_bytes(b"\x80")
    imported = data("import", bare, "--description", "Says nothing.")
    assert (imported["name"], imported["ignored"]) == ("my-adapter", ["training_args.bin"])
    assert refused("import", bare) == "expert_exists"
    assert data("import", bare, "--replace", "--description", "Says it again.")["previous"] == imported["generation"]
    archive = saved(tmp_path / "units.expert", tar_of((p.name, p.read_bytes()) for p in (EMBEDDED / "units").iterdir()))
    assert data("import", archive)["name"] == "units"
    assert data("show", "units")["version"] == "1.0.0"


@pytest.mark.parametrize(
    ("files", "code"),
    [({"adapter_config.json": b"{}", "adapter_model.bin": b""}, "pickle_refused"), ({}, "file_missing")],
)
def test_what_cannot_be_imported_is_refused_with_its_code(tmp_path: Path, files: dict[str, bytes], code: str) -> None:
    (tmp_path / "bare").mkdir()
    for name, content in files.items():
        (tmp_path / "bare" / name).write_bytes(content)
    assert refused("import", tmp_path / "bare") == code


def test_an_import_of_what_is_there_names_the_way_to_replace_it(package: Path) -> None:
    first = data("import", package)["generation"]
    reworded(package, b"# Second")
    assert refused("import", package) == "expert_exists"
    assert "`hotseat experts import --replace`" in invoke("import", package).stderr
    assert data("import", package, "--replace")["previous"] == first


def test_a_bare_peft_adapter_is_told_that_it_can_be_imported(package: Path) -> None:
    data("add", package)
    (package / MANIFEST_FILE).unlink()
    for command in (("add", package), ("replace", "units", package)):
        assert refused(*command) == "manifest_missing"
        assert "`hotseat experts import`" in invoke(*command).stderr


def test_a_repository_of_the_hub_needs_its_commit() -> None:
    assert refused("import", "someone/some-adapter", exit_code=2) == "settings_invalid"
    assert "pin its commit with --revision:" in invoke("import", "someone/some-adapter").stderr
    assert "40 hexadecimal digits" in invoke("import", "someone/some-adapter", "--revision", "main").stderr


def test_a_signed_package_is_trusted_and_an_unsigned_one_refused(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    public = data("keygen", key)["public_key"]
    assert key.stat().st_mode & 0o077 == 0
    assert refused("keygen", key) == "key_invalid"
    monkeypatch.setenv("HOTSEAT_STORE__REQUIRE_SIGNATURE", "1")
    assert refused("list", exit_code=2) == "settings_invalid"
    monkeypatch.setenv("HOTSEAT_STORE__TRUSTED_KEYS", str(tmp_path / "key.pub"))
    assert refused("add", package) == "signature_missing"
    named = package.rename(package.with_name("units"))
    assert data("sign", named, "--key", key) == {"name": "units", "signer": public}
    data("add", named)
    assert [state["signature"] for state in data("list")] == ["trusted"]
    data("sign", named, "--key", key)  # again: the signature is replaced
    changed = (named / MANIFEST_FILE).read_bytes().replace(b'"1.0.0"', b'"1.0.1"')
    (named / MANIFEST_FILE).write_bytes(changed)
    assert data_of_failed("verify", named)[0]["code"] == "signature_invalid"


def data_of_failed(*words: object) -> Any:
    result = invoke(*words, "--json")
    assert result.exit_code == 1
    return json.loads(result.stdout)


def test_a_package_that_could_not_be_served_is_not_signed(package: Path, tmp_path: Path) -> None:
    data("keygen", tmp_path / "key")
    named = package.rename(package.with_name("units"))
    (named / WEIGHTS_FILE).write_bytes(b"")
    assert refused("sign", named, "--key", tmp_path / "key") == "file_size"
    assert not (named / SIGNATURE_FILE).exists()


def test_verify_reads_every_byte_and_names_what_is_broken(package: Path, root: Path) -> None:
    data("add", package)
    assert invoke("verify").stdout == "units: whole, unsigned\n"
    [weights] = root.rglob(WEIGHTS_FILE)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert data("list")[0].get("fault") is None  # the listing does not read contents
    assert data_of_failed("verify", "units")[0]["code"] == "file_digest"
    assert "sha256" in invoke("verify").stdout
    assert refused("verify", "nobody") == "expert_not_found"


def test_version_1_is_migrated_in_place_and_serves_the_same(package: Path) -> None:
    named = package.rename(package.with_name("units"))
    before = read_package(named)
    assert before.manifest.schema_version == 1
    [done] = data("migrate", named)
    assert (done["name"], done["from"], done["dropped"]) == ("units", 1, [])
    after = read_package(named)
    assert after.manifest.schema_version == 2
    assert {name: digest_of(tensor.numpy().tobytes()) for name, tensor in after.tensors.items()} == {
        name: digest_of(tensor.numpy().tobytes()) for name, tensor in before.tensors.items()
    }
    assert data("migrate", named)[0]["from"] == 2


def test_ps_shows_what_the_server_holds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_expert(root, "sql")
    services = make_services(root)
    assert refused("ps", exit_code=2) == "settings_invalid"
    monkeypatch.setenv("HOTSEAT_SECURITY__ADMIN_KEY", KEY)
    with live_server(services, Settings(admin_key=SecretStr(KEY), drain_seconds=5)) as port:
        monkeypatch.setenv("HOTSEAT_SERVER__PORT", str(port))
        with services.store.fetch("sql"):
            assert [resident["name"] for resident in data("ps")["host"]["residents"]] == ["sql"]
            assert "sql" in invoke("ps").stdout
        monkeypatch.setenv("HOTSEAT_SECURITY__ADMIN_KEY", KEY[::-1])
        assert "is its admin key this one?" in invoke("ps").stderr
    assert refused("ps") == "server_error"


def test_what_a_package_says_of_itself_does_not_move_the_cursor(root: Path) -> None:
    manifest = write_expert(root, "odd")
    text = (root / "odd" / MANIFEST_FILE).read_text().replace("Does odd.", "Does \\u001b[2J\\u0007odd.")
    (root / "odd" / MANIFEST_FILE).write_text(text)
    (root / "broken").mkdir()
    (root / "broken" / "\x1b[2J").touch()
    (root / "broken" / MANIFEST_FILE).write_bytes(manifest.to_json().replace(b'"odd"', b'"broken"'))
    for command in (("list",), ("show", "odd")):
        assert "\x1b[2J" not in invoke(*command).stdout
    assert {state.name for state in AdapterStore(root, 0).states()} == {"broken", "odd"}


def test_a_table_for_a_program_holds_whole_values(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(EMBEDDED / "units", root / "units")
    (root / "broken").mkdir()
    for state in AdapterStore(root, 0).states():
        told = state.manifest.description if state.manifest else str(state.fault)
        assert told in invoke("list").stdout


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_on_any_screen_there_is_room_for_what_is_wrong(width: int, root: Path) -> None:
    shutil.copytree(EMBEDDED / "en-pt", root / "en-pt")
    shutil.copytree(EMBEDDED / "units", root / ("units-" + "x" * 40))
    states = AdapterStore(root, 0).states()
    text = io.StringIO()
    Console(file=text, width=width).print(list_table(states, LENIENT, width))
    rows = [row[width // 3 :] for row in text.getvalue().splitlines()]
    shown = "".join("".join(rows).split()).replace("│", "")
    assert "manifestsays'units'" in shown and "Translates" in shown
    assert max(map(len, text.getvalue().splitlines())) <= width


def test_a_directory_that_is_not_there_is_named_without_a_traceback(tmp_path: Path) -> None:
    assert refused("add", tmp_path / "gone") == "file_unreadable"
    assert refused("migrate", tmp_path / "gone") == "file_unreadable"
    assert refused("list", "--experts", tmp_path / "gone") == "store_error"
