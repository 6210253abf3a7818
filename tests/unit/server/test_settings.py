"""Settings: their defaults and bounds, where they come from, and which source wins."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import SECTION_OF, SECTIONS, Settings, SettingsInvalid, loaded, settings_with


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "hotseat.toml"
    path.write_text(
        '[server]\nport = 9001\nhost = "::1"\n[engine]\nslots = 3\n[security]\nallowed_hosts = ["a", "b"]\n'
    )
    return path


def test_the_default_listens_on_loopback_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_the_defaults_lie_in_the_repository() -> None:
    root = Path(__file__).resolve().parents[3]
    settings = Settings()
    assert settings.base == root / "models" / "nano"
    assert settings.experts == root / "adapters_store" / "experts"


def test_every_setting_is_in_one_section() -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(Settings.model_fields)


def test_every_setting_says_what_it_is() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_command_line_wins_over_the_environment_that_over_the_file_and_that_over_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTSEAT_SERVER__PORT", "9002")
    monkeypatch.setenv("HOTSEAT_ENGINE__SLOTS", "4")
    settings, origins = loaded(file, port=9003, max_batch=None)
    assert (settings.port, settings.slots, settings.host, settings.max_batch) == (9003, 4, "::1", 32)
    assert origins == {
        "port": "command line",
        "slots": "HOTSEAT_ENGINE__SLOTS",
        "host": str(file),
        "allowed_hosts": str(file),
    }


def test_a_variable_may_name_the_file_and_an_option_wins_over_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSEAT_CONFIG", str(file))
    assert settings_with().port == 9001
    other = file.with_name("other.toml")
    other.write_text("[server]\nport = 9009\n")
    assert settings_with(other).port == 9009


def test_a_list_is_a_list_in_the_file_and_has_commas_in_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_with(file).allowed_hosts == ("a", "b")
    monkeypatch.setenv("HOTSEAT_SECURITY__ALLOWED_HOSTS", "c, d,e")
    assert settings_with(file).allowed_hosts == ("c", "d", "e")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[server]\nprot = 1", r"unknown key server\.prot; did you mean server\.port\?"),
        ("[servre]\nport = 1", r"unknown key servre\.port; did you mean server\.port\?"),
        ("[server]\nslots = 1", r"unknown key server\.slots; did you mean engine\.slots\?"),
        ("port = 1", r"port stands outside of a section; did you mean server\.port\?"),
        ("[server.port]\nx = 1", "server.port"),
        ("[server]\nport = 0", r"server\.port \(.*hotseat\.toml\): .*greater"),
        ("[server", "not TOML"),
        ("[zzz]\nqqq = 1", r"unknown key zzz\.qqq; there are client\.api_key, "),
    ],
)
def test_what_is_wrong_in_the_file_is_named(content: str, complaint: str, file: Path) -> None:
    file.write_text(content)
    with pytest.raises(SettingsInvalid, match=complaint):
        settings_with(file)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"nothing\.toml"):
        settings_with(tmp_path / "nothing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match=r"binary\.toml"):
        settings_with(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("HOTSEAT_PORT", "HOTSEAT_SERVER__PORT"),
        ("HOTSEAT_SLOTS", "HOTSEAT_ENGINE__SLOTS"),
        ("HOTSEAT_SERVER__PROT", "HOTSEAT_SERVER__PORT"),
        ("HOTSEAT_SERVER__SLOTS", "HOTSEAT_ENGINE__SLOTS"),
        ("HOTSEAT_SERVER_PORT", "HOTSEAT_SERVER__PORT"),
    ],
)
def test_an_unknown_variable_is_an_error_with_the_nearest_name(
    variable: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "9000")
    with pytest.raises(SettingsInvalid, match=f"unknown variable {variable}; did you mean {nearest}\\?"):
        settings_with()


def test_what_kubernetes_sets_for_a_service_of_our_name_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "HOTSEAT_PORT": "tcp://10.0.0.1:8000",
        "HOTSEAT_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "HOTSEAT_PORT_8000_TCP_ADDR": "10.0.0.1",
        "HOTSEAT_SERVICE_HOST": "10.0.0.1",
        "HOTSEAT_SERVICE_PORT": "8000",
        "HOTSEAT_SERVICE_PORT_HTTP": "8000",
    }.items():
        monkeypatch.setenv(variable, value)
    assert settings_with().port == 8000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "0"),
        ("port", "70000"),
        ("device", "tpu"),
        ("quantization", "int3"),
        ("slots", "0"),
        ("max_queue", "-1"),
        ("threads", "many"),
        ("log_level", "loud"),
        ("memory", "-1"),
        ("memory", "2,000MiB"),
        ("client_seconds", "nan"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused_with_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = f"HOTSEAT_{SECTION_OF[name]}__{name}".upper()
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsInvalid, match=rf"{SECTION_OF[name]}\.{name} \({variable}\)"):
        settings_with()


def test_memory_is_read_with_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSEAT_MODEL__MEMORY", "20GiB")
    assert settings_with().memory == 20 << 30
    assert Settings(memory=1000).memory == 1000


def test_every_faulty_setting_is_named_a_line_each() -> None:
    with pytest.raises(SettingsInvalid, match=r"server\.port \(command line\).*\nmodel\.memory.*'x' is no size"):
        settings_with(port=0, memory="x")


def test_a_setting_that_does_not_exist_is_refused_in_code_too() -> None:
    with pytest.raises(ValidationError, match="prot"):
        Settings(prot=1)  # type: ignore[call-arg]
