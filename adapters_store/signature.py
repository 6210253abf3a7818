"""Who answers for a package: a detached Ed25519 signature over its manifest, which lists every file with its digest.

    manifest.sig = {"algorithm": "ed25519", "public_key": <64 hex digits>, "signature": <128 hex digits>}

What is signed is the canonical manifest: its JSON with sorted keys, no spaces and no escapes but JSON's own, in UTF-8,
after a line that keeps the signature from meaning anything elsewhere. So the file may be indented otherwise, and not
one value may change. The key inside only says which one to check with; who may sign is the operator's list of trusted
keys. Knows no paths of packages. Called by `package` and by the command line.
"""

import json
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from adapters_store.errors import KeyInvalid, ManifestInvalid, PackageInvalid
from adapters_store.files import write_durably
from adapters_store.json_node import HEX_32, HEX_64, parse_json
from adapters_store.manifest import SIGNATURE_FILE
from adapters_store.policy import Policy

MAX_SIGNATURE_BYTES = 1024
_CONTEXT = b"hotseat expert manifest\n"
_MAX_KEY_BYTES = 1 << 16


def canonical(manifest: bytes) -> bytes:
    """What is signed of a manifest.json; raises ManifestInvalid for what is not JSON."""
    value = parse_json(manifest).value
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return _CONTEXT + text.encode()
    except (TypeError, ValueError) as error:  # a key that occurs twice, half a surrogate pair, 1e999
        raise ManifestInvalid("$", "has no canonical form") from error


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of manifest.sig."""
    members = {
        "algorithm": "ed25519",
        "public_key": public_bytes(key.public_key()).hex(),
        "signature": key.sign(canonical(manifest)).hex(),
    }
    return json.dumps(members, indent=2).encode() + b"\n"


def signer_of(name: str, manifest: bytes, signature: bytes) -> bytes:
    """The public key whose signature it is; raises PackageInvalid if the signature is not one of this manifest."""
    try:
        members = parse_json(signature).fields(("algorithm", "public_key", "signature"))
        members["algorithm"].choice(("ed25519",))
        key = bytes.fromhex(members["public_key"].text(64, HEX_32))
        Ed25519PublicKey.from_public_bytes(key).verify(
            bytes.fromhex(members["signature"].text(128, HEX_64)), canonical(manifest)
        )
    except ManifestInvalid as error:
        fault = f"{SIGNATURE_FILE}: {error.path}: {error.fault}"
        raise PackageInvalid(name, fault, "signature_invalid") from error
    except (InvalidSignature, ValueError) as error:
        fault = f"{SIGNATURE_FILE} does not sign this manifest with the key that it names"
        raise PackageInvalid(name, fault, "signature_invalid") from error
    return key


def check_signature(name: str, manifest: bytes, signature: bytes | None, policy: Policy) -> bytes | None:
    """The signer's public key, None for an unsigned package. A wrong signature is refused under every policy."""
    if signature is None:
        if policy.require_signature:
            fault = f"it has no {SIGNATURE_FILE}, and unsigned packages are refused here"
            raise PackageInvalid(name, fault, "signature_missing")
        return None
    key = signer_of(name, manifest, signature)
    if policy.require_signature and key not in policy.trusted_keys:
        fault = f"it is signed by {key.hex()}, which is none of the {len(policy.trusted_keys)} trusted keys"
        raise PackageInvalid(name, fault, "signature_untrusted")
    return key


def new_key(path: Path) -> Ed25519PublicKey:
    """A new pair: the private key at `path`, for its owner alone, the public one beside it as `<path>.pub`."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    public_path = path.with_name(f"{path.name}.pub")
    for taken in (path, public_path):
        if taken.exists():
            raise KeyInvalid(str(taken), "it exists, and a key is never overwritten")
    try:
        write_durably(path, private, mode=0o600)
        write_durably(public_path, public)
    except OSError as error:
        raise KeyInvalid(str(path), f"cannot be written: {error.strerror}") from error
    return key.public_key()


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 key in PEM without a password; raises KeyInvalid."""
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise KeyInvalid(str(path), "it is not a private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyInvalid(str(path), "it is a private key of another kind than Ed25519")
    return key


def read_public_key(path: Path) -> bytes:
    """32 bytes, from PEM; raises KeyInvalid."""
    try:
        key = load_pem_public_key(_read(path))
    except ValueError as error:
        raise KeyInvalid(str(path), "it is not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyInvalid(str(path), "it is a public key of another kind than Ed25519")
    return public_bytes(key)


def read_trusted_keys(path: Path) -> frozenset[bytes]:
    """Of one `.pub` file, or of all in a directory."""
    files = sorted(path.glob("*.pub")) if path.is_dir() else [path]
    if not files:
        raise KeyInvalid(str(path), "there is no *.pub file in it")
    return frozenset(read_public_key(file) for file in files)


def public_bytes(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except OSError as error:
        raise KeyInvalid(str(path), f"cannot be read: {error.strerror}") from error
