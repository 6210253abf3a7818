"""Other people's adapters, made into packages: a bare PEFT adapter, a HiveLLM `.expert` archive, and our own version 1.

Owns the translation. What is made here is judged like every other package when it is installed. The base is the
caller's word: neither format identifies one, so its fingerprint is given. Knows no catalogue. Called by the server's
commands.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from adapters_store.errors import ManifestInvalid, PackageInvalid
from adapters_store.files import digest_of
from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    NAME,
    README_FILE,
    SCHEMA_VERSION,
    SIGNATURE_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterKind,
    AdapterSpec,
    FileEntry,
    GrammarRef,
    Manifest,
    SoftPromptSpec,
    parse_manifest,
)
from adapters_store.package import MANIFEST_FILE, read_config
from adapters_store.tensors import SOFT_PROMPT_TENSOR, read_tensors

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_KINDS: dict[str, AdapterKind] = {"LORA": "lora", "IA3": "ia3", "LOKR": "lokr"}
_LAYER = re.compile(r"(?:.*\.)?([A-Za-z_][A-Za-z0-9_]*)$")

Content = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Imported:
    name: str
    content: Content
    """All files of the package, manifest.json among them."""
    ignored: tuple[str, ...]
    """What the source held and the package does not need."""


def import_peft(files: Content, name: str, base: str, description: str = "", source: str = "PEFT adapter") -> Imported:
    """Of `files`, adapter_config.json and adapter_model.safetensors, a soft prompt, a grammar and README.md are taken.

    Raises PackageInvalid for what PEFT would load and this store never does, a pickle, and for a kind it cannot serve.
    """
    name = checked_name(name)
    if CONFIG_FILE not in files:
        raise PackageInvalid(name, f"there is no {CONFIG_FILE}", "file_missing")
    if WEIGHTS_FILE not in files:
        refuse_pickles(name, [file for file in files if file.startswith("adapter_model")])
        raise PackageInvalid(name, f"there is no {WEIGHTS_FILE}", "file_missing")
    config = read_config(name, files[CONFIG_FILE])
    refuse_pickles(name, [file for file in files if PurePosixPath(file).name.startswith("soft_prompt")])
    taken = {CONFIG_FILE, WEIGHTS_FILE} | (files.keys() & {SOFT_PROMPT_FILE, GRAMMAR_FILE, README_FILE})
    manifest = Manifest(
        name=name,
        version="1.0.0",
        description=description,
        base=base,
        adapter=adapter_spec(name, config, files[WEIGHTS_FILE]),
        soft_prompt=_soft_prompt(name, files[SOFT_PROMPT_FILE]) if SOFT_PROMPT_FILE in taken else None,
        grammar=GrammarRef(file=GRAMMAR_FILE) if GRAMMAR_FILE in taken else None,
        source=source[:400],
    )
    content = {file: files[file] for file in sorted(taken)}
    return packed(manifest, content, files.keys() - taken)


def migrate(files: Content) -> Imported:
    """A package of version 1 as one of the version that is written now; a signature does not outlive its manifest."""
    name = "?"
    try:
        manifest = parse_manifest(files.get(MANIFEST_FILE, b""))
        name = manifest.name
    except ManifestInvalid as error:
        raise PackageInvalid(name, str(error), error.code) from error
    listed = {entry.name for entry in manifest.files}
    if missing := sorted(listed - files.keys()):
        raise PackageInvalid(name, f"{missing[0]} is listed but missing", "file_missing")
    if strays := sorted(files.keys() - listed - {MANIFEST_FILE, SIGNATURE_FILE}):
        raise PackageInvalid(name, f"{strays[0]} is not listed in the manifest", "file_unlisted")
    for entry in manifest.files:
        if digest_of(files[entry.name]) != entry.sha256:
            raise PackageInvalid(name, f"{entry.name} has not the sha256 that the manifest says", "file_digest")
    if manifest.schema_version == SCHEMA_VERSION:
        return Imported(name, dict(files), ())
    migrated = replace(manifest, schema_version=SCHEMA_VERSION)
    content = {MANIFEST_FILE: migrated.to_json(), **{entry.name: files[entry.name] for entry in manifest.files}}
    return Imported(name, content, tuple(sorted(files.keys() & {SIGNATURE_FILE})))


def packed(manifest: Manifest, content: Content, ignored: Collection[str]) -> Imported:
    """With the list of its files, and read back once: what the schema does not allow is refused here."""
    entries = tuple(FileEntry(file, len(data), digest_of(data)) for file, data in sorted(content.items()))
    try:
        raw = replace(manifest, files=entries).to_json()
        parse_manifest(raw)
    except (ManifestInvalid, UnicodeEncodeError) as error:
        raise PackageInvalid(manifest.name, f"it cannot be described: {error}", "import_unsupported") from error
    return Imported(manifest.name, {MANIFEST_FILE: raw, **content}, tuple(sorted(ignored)))


def checked_name(name: str) -> str:
    """Raises PackageInvalid for what cannot be the name of an expert."""
    if not NAME.fullmatch(name):
        raise PackageInvalid(name, f"the name {name!r} does not match {NAME.pattern}", "name_invalid")
    return name


def refuse_pickles(name: str, files: Collection[str]) -> None:
    """With the way out: loading a pickle runs whatever code its author put in."""
    for file in sorted(files):
        if file.endswith(PICKLES):
            raise PackageInvalid(
                name,
                f"{file} is a pickle, which runs code when it is loaded; where you trust it, convert it once:"
                " safetensors.torch.save_file(torch.load(..., weights_only=True), ...)"
                f" into {SOFT_PROMPT_FILE if 'prompt' in file else WEIGHTS_FILE}",
                "pickle_refused",
            )


def adapter_spec(name: str, config: Mapping[str, object], weights: bytes) -> AdapterSpec:
    """What PEFT's config says of the adapter; modules that it gives as a pattern are read off the tensors' names."""
    peft_type = str(config.get("peft_type"))
    if peft_type not in _KINDS:
        fault = f"{CONFIG_FILE} has peft_type {peft_type[:40]!r}, only {', '.join(_KINDS)} are served"
        raise PackageInvalid(name, fault, "import_unsupported")
    kind: AdapterKind = "dora" if config.get("use_dora") else _KINDS[peft_type]
    targets = config.get("target_modules")
    if not (isinstance(targets, list) and targets and all(isinstance(target, str) for target in targets)):
        targets = _modules_of(read_tensors(name, WEIGHTS_FILE, weights))
    rank = config.get("r")
    if kind != "ia3" and (isinstance(rank, bool) or not isinstance(rank, int)):
        raise PackageInvalid(name, f"{CONFIG_FILE} has rank {rank!r}, not a whole number", "config_invalid")
    return AdapterSpec(kind, rank if isinstance(rank, int) and kind != "ia3" else None, tuple(sorted(targets)))


def _modules_of(keys: Collection[str]) -> list[str]:
    layers = {re.split(r"\.(?:lora_|ia3_|lokr_)", key)[0] for key in keys}
    return sorted({found[1] for layer in layers if (found := _LAYER.match(layer))})


def _soft_prompt(name: str, content: bytes) -> SoftPromptSpec:
    rows = read_tensors(name, SOFT_PROMPT_FILE, content).get(SOFT_PROMPT_TENSOR)
    if rows is None or rows.dim() != 2:
        fault = f"{SOFT_PROMPT_FILE} holds no matrix {SOFT_PROMPT_TENSOR}"
        raise PackageInvalid(name, fault, "soft_prompt_invalid")
    return SoftPromptSpec(len(rows))
