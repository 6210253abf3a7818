"""API keys at rest: what the file holds and what it does not, who is let in, and what makes it useless."""

import json
import threading
from pathlib import Path

import pytest

from server.keys import Caller, KeyFile, KeyRefused, KeysInvalid, open_keys
from server.settings import SettingsInvalid


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "secrets" / "keys.json")


def test_a_key_opens_what_it_was_made_for(keys: KeyFile) -> None:
    token = keys.add("ci", ["generate"], ["sql"], 3)
    caller = keys.caller(token)
    assert (caller.scopes, caller.experts, caller.max_concurrent) == (frozenset({"generate"}), frozenset({"sql"}), 3)
    assert caller.may("generate") and not caller.may("metrics") and not caller.may("admin")
    assert caller.may_use("sql") and not caller.may_use("json")


def test_admin_may_do_what_the_others_may() -> None:
    caller = Caller("x", frozenset({"admin"}))
    assert caller.may("generate") and caller.may("metrics") and caller.may_use("anything")


def test_the_file_holds_no_secret_and_is_its_owners_alone(keys: KeyFile) -> None:
    secret = keys.add("ci", ["generate"]).split("_", 2)[2]
    assert secret not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o777 == 0o600


def test_two_keys_have_salts_of_their_own(keys: KeyFile) -> None:
    keys.add("a", ["generate"])
    keys.add("b", ["generate"])
    first, second = keys.entries()
    assert first.salt != second.salt and first.hash != second.hash


def test_any_change_of_a_token_is_refused(keys: KeyFile) -> None:
    token = keys.add("ci", ["generate"])
    other = keys.add("other", ["admin"])
    wrong_last = token[:-1] + ("A" if token[-1] != "A" else "B")
    borrowed = "_".join([*other.split("_", 2)[:2], token.split("_", 2)[2]])
    for offered in ("", "x", wrong_last, borrowed, token + "A", token.upper(), "hs_000000000000_" + "A" * 43, "é" * 60):
        with pytest.raises(KeyRefused):
            keys.caller(offered)


def test_a_refusal_repeats_nothing_of_the_token(keys: KeyFile) -> None:
    keys.add("ci", ["generate"])
    with pytest.raises(KeyRefused) as refused:
        keys.caller("my-other-password")
    assert "my-other-password" not in str(refused.value)


def test_a_revoked_key_is_refused_at_once_by_a_process_that_had_read_it(keys: KeyFile) -> None:
    token, kept = keys.add("ci", ["generate"]), keys.add("kept", ["generate"])
    server = KeyFile(keys.path)
    assert server.caller(token).id
    keys.revoke("ci")
    with pytest.raises(KeyRefused):
        server.caller(token)
    assert server.caller(kept).id


def test_a_key_is_revoked_by_id_too_and_only_if_it_is_there(keys: KeyFile) -> None:
    identity = keys.caller(keys.add("ci", ["generate"])).id
    assert keys.revoke(identity).name == "ci"
    with pytest.raises(KeysInvalid, match="no key with the id or name 'ci'"):
        keys.revoke("ci")


def test_a_name_is_used_once_and_is_plain(keys: KeyFile) -> None:
    keys.add("ci", ["generate"])
    with pytest.raises(KeysInvalid, match="'ci' already"):
        keys.add("ci", ["generate"])
    with pytest.raises(KeysInvalid, match="name"):
        keys.add("a\nb", ["generate"])


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"version": 2, "keys": []}',
        '{"version": 1, "keys": [{"id": "x"}]}',
        '{"version": 1, "keys": [], "more": 1}',
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ],
)
def test_a_file_that_is_no_file_of_keys_lets_nobody_in(content: str, keys: KeyFile) -> None:
    token = keys.add("ci", ["generate"])
    keys.path.write_text(content)
    for _ in range(2):  # also when it is asked again: what was read before is forgotten
        with pytest.raises(KeysInvalid):
            keys.caller(token)


def test_a_file_that_is_gone_lets_nobody_in(keys: KeyFile) -> None:
    token = keys.add("ci", ["generate"])
    keys.path.unlink()
    with pytest.raises(KeysInvalid, match="cannot read"):
        keys.caller(token)


def test_a_file_that_others_may_write_lets_nobody_in(keys: KeyFile) -> None:
    token = keys.add("ci", ["generate"])
    keys.path.chmod(0o666)
    with pytest.raises(KeysInvalid, match="chmod 600"):
        keys.caller(token)


def test_a_message_about_the_file_repeats_no_value_of_it(keys: KeyFile) -> None:
    keys.path.parent.mkdir()
    keys.path.write_text(json.dumps({"version": 1, "keys": [{"id": "secret-here"}]}))
    with pytest.raises(KeysInvalid) as fault:
        keys.entries()
    assert "secret-here" not in str(fault.value)


def test_keys_that_are_added_at_the_same_time_are_all_kept(keys: KeyFile) -> None:
    threads = [threading.Thread(target=KeyFile(keys.path).add, args=(f"k{n}", ["generate"])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.name for entry in keys.entries()} == {f"k{n}" for n in range(8)}
    assert [path.name for path in keys.path.parent.iterdir()] == ["keys.json"]


def test_a_server_does_not_start_with_a_file_that_lets_nobody_in(keys: KeyFile) -> None:
    with pytest.raises(SettingsInvalid, match="cannot read"):
        open_keys(keys.path)
    keys.add("ci", ["generate"])
    assert open_keys(keys.path).entries()
    keys.revoke("ci")
    with pytest.raises(SettingsInvalid, match="holds no API key"):
        open_keys(keys.path)
