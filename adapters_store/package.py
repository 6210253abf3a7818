"""One expert package: a directory on disk, an immutable HostAdapter in memory.

Owns the check of every byte against the manifest and the policy, and the atomic replacement of a package; `tensors`
looks into the tensor files. Knows no device, no cache and no base model. `store` reads packages, training writes them.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import torch

from adapters_store.errors import ManifestInvalid, PackageInvalid
from adapters_store.files import list_files, read_file, replace_directory, write_durably
from adapters_store.json_node import parse_whole
from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    NAME,
    SIGNATURE_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterSpec,
    FileEntry,
    Manifest,
    parse_manifest,
)
from adapters_store.policy import LENIENT, Policy
from adapters_store.signature import MAX_SIGNATURE_BYTES, check_signature
from adapters_store.tensors import check_shapes, read_soft_prompt, read_tensors

MANIFEST_FILE = "manifest.json"
_MAX_MANIFEST_BYTES = 1 << 20
_PEFT_TYPES = {"lora": "LORA", "dora": "LORA", "ia3": "IA3", "lokr": "LOKR"}


@dataclass(frozen=True, slots=True, eq=False)
class HostAdapter:
    """An expert in host memory. Its tensors are never changed: other requests hold the same object."""

    manifest: Manifest
    generation: str  # sha256 of the content, a signature included: equal generations are interchangeable, names not
    config: Mapping[str, object]  # adapter_config.json as PEFT wrote it
    tensors: Mapping[str, torch.Tensor]
    soft_prompt: torch.Tensor | None  # [num_virtual_tokens, hidden]
    grammar: str | None  # GBNF
    num_bytes: int  # of all tensors


@dataclass(frozen=True, slots=True)
class PackageCard:
    """What a package says of itself; that its contents keep the word is known once they were read."""

    manifest: Manifest
    generation: str
    signer: bytes | None
    """The public key that signed the manifest; None for an unsigned package."""


def read_manifest(directory: Path, policy: Policy = LENIENT) -> Manifest:
    """The manifest of a package whose directory holds exactly the files it lists; contents are not read."""
    return describe_package(directory, policy).manifest


def describe_package(directory: Path, policy: Policy = LENIENT) -> PackageCard:
    """As `read_manifest`, with the generation that the package has if its digests are true."""
    name = directory.name
    if not NAME.fullmatch(name):
        raise PackageInvalid(name, f"the name of its directory does not match {NAME.pattern}", "name_invalid")
    sizes = {stamp.name: stamp.size for stamp in list_files(directory)}
    raw, manifest = _read_manifest(directory, sizes)
    _check_listing(manifest, sizes)
    _check_policy(manifest, policy)
    signature = read_file(directory / SIGNATURE_FILE, MAX_SIGNATURE_BYTES) if SIGNATURE_FILE in sizes else None
    signer = check_signature(name, raw, signature, policy)
    return PackageCard(manifest, _generation(raw, manifest, signature), signer)


def read_package(directory: Path, policy: Policy = LENIENT) -> HostAdapter:
    """Raises PackageInvalid for whatever is wrong with it. Every byte is checked before it is interpreted."""
    name = directory.name
    card = describe_package(directory, policy)
    manifest = card.manifest
    content = {entry.name: _read_entry(directory, entry) for entry in manifest.files}
    config = read_config(name, content[CONFIG_FILE])
    _check_kind(name, manifest.adapter, config)
    tensors = read_tensors(name, WEIGHTS_FILE, content[WEIGHTS_FILE])
    check_shapes(name, manifest.adapter, config, tensors, policy.max_rank)
    soft_prompt = None
    if manifest.soft_prompt is not None:
        soft_prompt = read_soft_prompt(name, manifest.soft_prompt.tokens, content[SOFT_PROMPT_FILE])
    held = [*tensors.values(), *([] if soft_prompt is None else [soft_prompt])]
    return HostAdapter(
        manifest=manifest,
        generation=card.generation,
        config=MappingProxyType(config),
        tensors=MappingProxyType(tensors),
        soft_prompt=soft_prompt,
        grammar=_read_grammar(name, content),
        num_bytes=sum(tensor.nbytes for tensor in held),
    )


def read_config(name: str, content: bytes) -> dict[str, object]:
    """PEFT's adapter_config.json of package `name`."""
    try:
        config = parse_whole(content)
    except ManifestInvalid as error:
        raise PackageInvalid(name, f"{CONFIG_FILE} {error.fault}", "config_invalid") from error
    if not isinstance(config, dict):
        raise PackageInvalid(name, f"{CONFIG_FILE} is not an object", "config_invalid")
    return config


def _read_manifest(directory: Path, sizes: Mapping[str, int]) -> tuple[bytes, Manifest]:
    name = directory.name
    if MANIFEST_FILE not in sizes:
        hint = "; `hotseat experts import` makes a package of a bare PEFT adapter" if CONFIG_FILE in sizes else ""
        raise PackageInvalid(name, f"there is no {MANIFEST_FILE}{hint}", "manifest_missing")
    raw = read_file(directory / MANIFEST_FILE, _MAX_MANIFEST_BYTES)
    try:
        manifest = parse_manifest(raw)
    except ManifestInvalid as error:
        raise PackageInvalid(name, str(error), error.code) from error
    if manifest.name != name:
        fault = f"its directory is called {name!r}, its manifest says {manifest.name!r}"
        raise PackageInvalid(name, fault, "name_mismatch")
    return raw, manifest


def _check_policy(manifest: Manifest, policy: Policy) -> None:
    total = sum(entry.size for entry in manifest.files)
    if total > policy.max_package_bytes:
        fault = f"its files have {total} bytes together, the limit is {policy.max_package_bytes}"
        raise PackageInvalid(manifest.name, fault, "package_too_large")
    if policy.base is not None and manifest.base != policy.base:
        fault = f"it was made for the base {manifest.base}, not for {policy.base}"
        raise PackageInvalid(manifest.name, fault, "base_mismatch")


def _check_listing(manifest: Manifest, sizes: Mapping[str, int]) -> None:
    listed = {entry.name for entry in manifest.files}
    for stray in sorted(sizes.keys() - listed - {MANIFEST_FILE, SIGNATURE_FILE}):
        raise PackageInvalid(manifest.name, f"{stray} is not listed in the manifest", "file_unlisted")
    for entry in manifest.files:
        if entry.name not in sizes:
            raise PackageInvalid(manifest.name, f"{entry.name} is listed but missing", "file_missing")
        if sizes[entry.name] != entry.size:
            fault = f"{entry.name} has {sizes[entry.name]} bytes, the manifest says {entry.size}"
            raise PackageInvalid(manifest.name, fault, "file_size")


def _read_entry(directory: Path, entry: FileEntry) -> bytes:
    content = read_file(directory / entry.name, entry.size)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        fault = f"{entry.name} has the sha256 {digest}, the manifest says {entry.sha256}"
        raise PackageInvalid(directory.name, fault, "file_digest")
    return content


def _check_kind(name: str, adapter: AdapterSpec, config: Mapping[str, object]) -> None:
    """A DoRA served as a LoRA answers, and answers wrongly: the manifest and PEFT's config must agree."""
    found = config.get("peft_type")
    if found != _PEFT_TYPES[adapter.kind]:
        fault = f"{CONFIG_FILE} has peft_type {found!r}, the manifest says {adapter.kind}"
        raise PackageInvalid(name, fault, "kind_mismatch")
    if bool(config.get("use_dora")) != (adapter.kind == "dora"):
        fault = f"{CONFIG_FILE} has use_dora {config.get('use_dora')!r}, the manifest says {adapter.kind}"
        raise PackageInvalid(name, fault, "kind_mismatch")
    if adapter.rank is not None and config.get("r") != adapter.rank:
        fault = f"{CONFIG_FILE} has rank {config.get('r')!r}, the manifest {adapter.rank}"
        raise PackageInvalid(name, fault, "rank_mismatch")


def _read_grammar(name: str, content: Mapping[str, bytes]) -> str | None:
    if GRAMMAR_FILE not in content:
        return None
    try:
        return content[GRAMMAR_FILE].decode("utf-8")
    except UnicodeDecodeError as error:
        raise PackageInvalid(name, f"{GRAMMAR_FILE} is not UTF-8: {error}", "grammar_invalid") from error


def _generation(manifest_bytes: bytes, manifest: Manifest, signature: bytes | None) -> str:
    content = hashlib.sha256(manifest_bytes)
    for entry in sorted(manifest.files, key=lambda entry: entry.name):
        content.update(f"\n{entry.name}\n{entry.sha256}".encode())
    if signature is not None:
        content.update(f"\n{SIGNATURE_FILE}\n{hashlib.sha256(signature).hexdigest()}".encode())
    return content.hexdigest()


def write_package(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """Publishes a package, replacing one of the same name; the manifest gets the list of `files`.

    Whatever happens on the way, the directory holds the old package or the new one, whole. The new one is
    read back before it takes the place, so nothing gets published that could not be served.
    """
    entries = (FileEntry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items()))
    manifest = replace(manifest, files=tuple(entries))
    parse_manifest(manifest.to_json())  # before any of its names becomes a path
    root = directory.parent
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=root))
    try:
        staged = staging / directory.name
        staged.mkdir()
        for name, data in {**files, MANIFEST_FILE: manifest.to_json()}.items():
            write_durably(staged / name, data)
        read_package(staged)
        replace_directory(directory, staged)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return manifest
