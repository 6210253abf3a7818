"""The environment's variables, their bounds, and the defaults."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings, SettingsInvalid, settings_with


def test_the_default_listens_on_loopback_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)


def test_a_variable_of_the_environment_sets_a_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSEAT_PORT", "9123")
    monkeypatch.setenv("HOTSEAT_EXPERTS", "/srv/experts")
    settings = Settings()
    assert settings.port == 9123
    assert settings.experts == Path("/srv/experts")


def test_an_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSEAT_PORT", "9123")
    assert Settings(port=9124).port == 9124


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "70000"),
        ("DEVICE", "tpu"),
        ("QUANTIZATION", "int3"),
        ("SLOTS", "0"),
        ("MAX_QUEUE", "-1"),
        ("THREADS", "many"),
        ("LOG_LEVEL", "loud"),
        ("MEMORY", "-1"),
        ("MEMORY", "2,000MiB"),
    ],
)
def test_a_value_out_of_its_bounds_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"HOTSEAT_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_the_defaults_lie_in_the_repository() -> None:
    root = Path(__file__).resolve().parents[3]
    settings = Settings()
    assert settings.base == root / "models" / "nano"
    assert settings.experts == root / "adapters_store" / "experts"


def test_memory_is_read_with_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSEAT_MEMORY", "20GiB")
    assert Settings().memory == 20 << 30
    assert Settings(memory=1000).memory == 1000


def test_options_that_were_not_given_leave_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTSEAT_PORT", "9123")
    monkeypatch.setenv("HOTSEAT_SLOTS", "4")
    settings = settings_with(port=None, slots=5)
    assert (settings.port, settings.slots) == (9123, 5)


def test_every_faulty_option_is_named_with_its_variable() -> None:
    with pytest.raises(SettingsInvalid, match=r"port \(HOTSEAT_PORT\).*\nmemory \(HOTSEAT_MEMORY\).*'x' is no size"):
        settings_with(port=0, memory="x")
