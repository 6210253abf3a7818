"""The environment's variables, their bounds, and the defaults."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings


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
