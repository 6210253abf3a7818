"""Signatures: what they cover, and what an operator may ask for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings

from adapters_store.errors import KeyInvalid, ManifestInvalid, PackageInvalid
from adapters_store.manifest import SIGNATURE_FILE, WEIGHTS_FILE, Manifest
from adapters_store.package import MANIFEST_FILE, describe_package, read_package, write_package
from adapters_store.policy import Policy
from adapters_store.signature import (
    canonical,
    new_key,
    public_bytes,
    read_private_key,
    read_public_key,
    read_trusted_keys,
    sign,
    signer_of,
)
from tests.unit.adapters_store.packages import lora_files, lora_manifest
from tests.unit.adapters_store.strategies import manifests

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(31) + b"\1")
PUBLIC = public_bytes(KEY.public_key())
STRICT = Policy(require_signature=True, trusted_keys=frozenset({PUBLIC}))


def signed(root: Path, key: Ed25519PrivateKey = KEY) -> Path:
    tiny = root / "tiny"
    write_package(tiny, lora_manifest(), lora_files())
    (tiny / SIGNATURE_FILE).write_bytes(sign((tiny / MANIFEST_FILE).read_bytes(), key))
    return tiny


def refusal(tiny: Path, policy: Policy = STRICT) -> str:
    with pytest.raises(PackageInvalid) as refused:
        read_package(tiny, policy)
    return refused.value.code


def test_a_signed_package_names_its_signer(tmp_path: Path) -> None:
    tiny = signed(tmp_path)
    assert describe_package(tiny, STRICT).signer == PUBLIC
    assert read_package(tiny, STRICT).manifest.name == "tiny"


def test_a_signature_is_a_generation_of_its_own(tmp_path: Path) -> None:
    generations = {describe_package(signed(tmp_path / str(n), key)).generation for n, key in enumerate((KEY, OTHER))}
    write_package(tmp_path / "tiny", lora_manifest(), lora_files())
    generations.add(describe_package(tmp_path / "tiny").generation)
    assert len(generations) == 3


def test_an_unsigned_package_is_refused_where_signatures_are_required(tmp_path: Path) -> None:
    write_package(tmp_path / "tiny", lora_manifest(), lora_files())
    assert refusal(tmp_path / "tiny") == "signature_missing"
    assert describe_package(tmp_path / "tiny").signer is None


def test_a_signature_by_a_stranger_is_refused_where_signatures_are_required(tmp_path: Path) -> None:
    tiny = signed(tmp_path, OTHER)
    assert refusal(tiny) == "signature_untrusted"
    assert describe_package(tiny).signer == public_bytes(OTHER.public_key())


@pytest.mark.parametrize("policy", [Policy(), STRICT])
def test_one_changed_value_of_the_manifest_is_refused_under_every_policy(tmp_path: Path, policy: Policy) -> None:
    tiny = signed(tmp_path)
    text = (tiny / MANIFEST_FILE).read_text().replace("Says nothing.", "Says nothing!")
    (tiny / MANIFEST_FILE).write_text(text)
    assert refusal(tiny, policy) == "signature_invalid"


def test_one_changed_weight_of_a_signed_package_is_refused(tmp_path: Path) -> None:
    tiny = signed(tmp_path)
    weights = bytearray((tiny / WEIGHTS_FILE).read_bytes())
    weights[-1] ^= 1
    (tiny / WEIGHTS_FILE).write_bytes(weights)
    assert refusal(tiny) == "file_digest"


def test_another_layout_of_the_same_manifest_keeps_its_signature(tmp_path: Path) -> None:
    tiny = signed(tmp_path)
    members = json.loads((tiny / MANIFEST_FILE).read_text())
    (tiny / MANIFEST_FILE).write_text(json.dumps(dict(reversed(members.items())), indent=7))
    assert describe_package(tiny, STRICT).signer == PUBLIC


@pytest.mark.parametrize(
    "change",
    [
        {"algorithm": "none"},
        {"public_key": ""},
        {"public_key": "0" * 63},
        {"public_key": "z" * 64},
        {"public_key": public_bytes(OTHER.public_key()).hex()},
        {"signature": "0" * 128},
        {"signature": 4},
        {"extra": 1},
    ],
)
def test_a_signature_file_that_is_not_ours_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    tiny = signed(tmp_path)
    members = json.loads((tiny / SIGNATURE_FILE).read_text()) | change
    (tiny / SIGNATURE_FILE).write_text(json.dumps(members))
    assert refusal(tiny, Policy()) == "signature_invalid"


def test_a_signature_file_of_a_megabyte_is_refused_unread(tmp_path: Path) -> None:
    tiny = signed(tmp_path)
    (tiny / SIGNATURE_FILE).write_bytes(b" " * (1 << 20))
    assert refusal(tiny) == "file_too_large"


@settings(deadline=None, max_examples=40)
@given(manifests(), manifests())
def test_equal_canonical_forms_are_equal_manifests(one: Manifest, other: Manifest) -> None:
    assert (canonical(one.to_json()) == canonical(other.to_json())) == (one == other)
    raw = one.to_json()
    assert signer_of("tiny", raw, sign(raw, KEY)) == PUBLIC
    with pytest.raises(PackageInvalid):
        signer_of("tiny", replace(one, description=one.description + "!").to_json(), sign(raw, KEY))


@pytest.mark.parametrize("raw", [b'{"a": 1, "a": 1}', b'{"a": "\\ud800"}', b'{"a": 1e999}'])
def test_what_has_no_canonical_form_cannot_be_signed(raw: bytes) -> None:
    with pytest.raises(ManifestInvalid, match="has no canonical form"):
        sign(raw, KEY)


def test_a_new_pair_of_keys_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    public = new_key(tmp_path / "release")
    assert (tmp_path / "release").stat().st_mode & 0o077 == 0
    assert public_bytes(public) == read_public_key(tmp_path / "release.pub")
    assert public_bytes(read_private_key(tmp_path / "release").public_key()) == public_bytes(public)
    with pytest.raises(KeyInvalid, match="it exists"):
        new_key(tmp_path / "release")
    with pytest.raises(KeyInvalid, match="cannot be written"):
        new_key(tmp_path / "gone" / "release")


def test_trusted_keys_are_one_file_or_all_of_a_directory(tmp_path: Path) -> None:
    for name in ("one", "two"):
        new_key(tmp_path / name)
    assert len(read_trusted_keys(tmp_path)) == 2
    assert read_trusted_keys(tmp_path / "one.pub") == {read_public_key(tmp_path / "one.pub")}
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyInvalid, match=r"no \*\.pub file"):
        read_trusted_keys(tmp_path / "empty")


def test_keys_of_another_kind_are_refused(tmp_path: Path) -> None:
    key = X25519PrivateKey.generate()
    private, public = tmp_path / "private", tmp_path / "public"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(KeyInvalid, match="another kind than Ed25519"):
        read_private_key(private)
    with pytest.raises(KeyInvalid, match="another kind than Ed25519"):
        read_public_key(public)
    for read in (read_private_key, read_public_key):
        with pytest.raises(KeyInvalid, match="it is not a"):
            read(Path(__file__))
        with pytest.raises(KeyInvalid, match="cannot be read: No such file"):
            read(tmp_path / "gone")
