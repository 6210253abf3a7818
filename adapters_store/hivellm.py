"""HiveLLM's `.expert` archives, manifest versions 1 (`base_model`) and 2.0 (`base_models`), made into packages.

Owns that manifest's meaning: adapter, routing words, decoding defaults, grammar, license. Its digests are checked where
it has any; its base is only a name, so the fingerprint is the caller's word. What
an archive may hold is `archive`'s.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from adapters_store.errors import ManifestInvalid, PackageInvalid
from adapters_store.files import digest_of
from adapters_store.importing import Content, Imported, checked_name, import_peft, packed, refuse_pickles
from adapters_store.json_node import parse_json
from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    README_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    DecodingDefaults,
    RoutingHints,
    parse_manifest,
)
from adapters_store.package import MANIFEST_FILE

_MAX_CUES = 200
Members = Mapping[str, object]


def import_hivellm(files: Content, base: str, name: str | None = None, model: str | None = None) -> Imported:
    """`model` chooses among the bases of a version 2.0 archive. Raises PackageInvalid that names what is at fault."""
    members = _members(files)
    name = checked_name(name or _text(members, "name").lower().replace(" ", "-"))
    version = _text(members, "schema_version") or ("2.0" if "base_models" in members else "1.0")
    trained_on, adapters = _adapters(name, version, members, model)
    if len(adapters) != 1:
        fault = f"it has {len(adapters)} adapters for one base, and an expert has one"
        raise PackageInvalid(name, fault, "import_unsupported")
    folder = _folder(name, files, _text(adapters[0], "path"), _text(adapters[0], "sha256"))
    chosen = _chosen(files, folder)
    _check_soft_prompts(name, members, files, chosen)
    source = f"HiveLLM {version}: {_text(members, 'name')} {_text(members, 'version')} for {_stem(trained_on)}"
    imported = import_peft(chosen, name, base, _text(members, "description")[:2000], source)
    manifest = replace(
        parse_manifest(imported.content[MANIFEST_FILE]),
        version=_semver(_text(members, "version")),
        routing=_routing(_object(members, "routing")),
        decoding=_decoding(_object(_object(members, "training"), "decoding")),
        tags=tuple(tag for tag in _texts(members, "tags") if tag and not any(map(str.isspace, tag)))[:32],
        license=_text(members, "license")[:200] or None,
    )
    content = {file: data for file, data in imported.content.items() if file != MANIFEST_FILE}
    used = {folder + file for file in content} | set(content) | {MANIFEST_FILE}
    return packed(manifest, content, files.keys() - used)


def is_hivellm(files: Content) -> bool:
    """By its manifest, whatever the archive is called."""
    try:
        members = _members(files)
    except PackageInvalid:
        return False
    return "base_model" in members or "base_models" in members


def _members(files: Content) -> Members:
    try:
        value = parse_json(files.get(MANIFEST_FILE, b"")).value
    except ManifestInvalid as error:
        raise PackageInvalid("?", str(error), "manifest_invalid") from error
    if not isinstance(value, dict):
        raise PackageInvalid("?", f"{MANIFEST_FILE} is not an object", "manifest_invalid")
    return value


def _adapters(name: str, version: str, members: Members, model: str | None) -> tuple[str, list[Members]]:
    """The base's name as they give it, and the adapters for it."""
    if version.startswith("1"):
        return _text(_object(members, "base_model"), "name"), _objects(members, "adapters")
    if not version.startswith("2"):
        raise PackageInvalid(name, f"HiveLLM's manifest version {version[:20]!r} is unknown", "manifest_version")
    models = {_text(entry, "name"): entry for entry in _objects(members, "base_models")}
    if model is None and len(models) == 1:
        model = next(iter(models))
    found = next((full for full in models if model in (full, _stem(full))), None)
    if found is None:
        known = ", ".join(_stem(full) for full in models) or "none"
        fault = f"it is made for {known}; choose one with --model" + (f", not {model!r}" if model else "")
        raise PackageInvalid(name, fault, "import_unsupported")
    return found, _objects(models[found], "adapters")


def _folder(name: str, files: Content, path: str, sha256: str) -> str:
    """Where the adapter lies in the archive, with its slash: as the manifest says, or at the root as newer ones do."""
    parent = str(PurePosixPath(path).parent) if path.endswith(".safetensors") else path
    for folder in (f"{parent.strip('/')}/" if parent not in ("", ".") else "", ""):
        if folder + CONFIG_FILE in files:
            break
    else:
        raise PackageInvalid(name, f"there is no {CONFIG_FILE} at {path or 'the root'!r}", "file_missing")
    weights = path if path in files else folder + WEIGHTS_FILE
    if weights in files and len(sha256) == 64 and digest_of(files[weights]) != sha256.lower():
        raise PackageInvalid(name, f"{weights} has not the sha256 that its manifest says", "file_digest")
    return folder


def _chosen(files: Content, folder: str) -> dict[str, bytes]:
    """The adapter's files by their own names; those beside the manifest count where the adapter has none."""
    chosen = {file: files[file] for file in (GRAMMAR_FILE, README_FILE, SOFT_PROMPT_FILE) if file in files}
    for file, data in files.items():
        if file.startswith(folder) and "/" not in file[len(folder) :] and file != MANIFEST_FILE:
            chosen[file[len(folder) :]] = data
    tensors = [file for file in chosen if file.endswith(".safetensors") and file != SOFT_PROMPT_FILE]
    if WEIGHTS_FILE not in chosen and len(tensors) == 1:
        chosen[WEIGHTS_FILE] = chosen.pop(tensors[0])
    return chosen


def _check_soft_prompts(name: str, members: Members, files: Content, chosen: Content) -> None:
    """Theirs are pickles. A converted one is taken if it lies where ours would."""
    paths = [_text(prompt, "path") for prompt in _objects(members, "soft_prompts")]
    if paths and SOFT_PROMPT_FILE not in chosen:
        refuse_pickles(name, [*paths, *(file for file in files if file.startswith("soft_prompts/"))])
        fault = f"its soft prompt {paths[0]!r} is not {SOFT_PROMPT_FILE}, where one is looked for"
        raise PackageInvalid(name, fault, "import_unsupported")


def _routing(routing: Members) -> RoutingHints:
    """Their keywords are single words of everyday language (`from`, `get`), which would claim every prompt: only
    phrases become cues, and everything else is left to the later stages of the router.
    """
    phrases = [cue.strip() for cue in _texts(routing, "keywords") if len(cue.split()) > 1]
    excludes = [cue.strip() for cue in _texts(routing, "exclude_keywords")]
    return RoutingHints(cues=_phrases(phrases), excludes=_phrases(excludes))


def _phrases(texts: list[str]) -> tuple[str, ...]:
    usable = (text for text in texts if len(text) <= 200 and "..." not in text and not text.startswith("^"))
    return tuple(text for text in usable if sum(map(str.isalnum, text)) >= 3)[:_MAX_CUES]


def _decoding(decoding: Members) -> DecodingDefaults:
    """What is out of range is left to the server."""

    def number(key: str, low: float, high: float) -> float | None:
        value = decoding.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return float(value) if is_number and low <= value <= high else None  # type: ignore[operator, arg-type]

    top_k = number("top_k", 0, 1 << 20)
    top_p = number("top_p", 0, 1)
    return DecodingDefaults(
        temperature=number("temperature", 0, 2),
        top_p=top_p or None,
        top_k=None if top_k is None else int(top_k),
        min_p=number("min_p", 0, 1),
    )


def _semver(version: str) -> str:
    parts = version.split(".") if version.isascii() and len(version) <= 64 else []
    is_one = len(parts) == 3 and all(part.isdecimal() and part == str(int(part)) for part in parts)
    return version if is_one else "0.0.0"


def _stem(model: str) -> str:
    """Real manifests hold paths of the author's machine."""
    return PurePosixPath(model.replace("\\", "/")).name[:100]


def _object(members: Members, key: str) -> Members:
    value = members.get(key)
    return value if isinstance(value, dict) else {}


def _objects(members: Members, key: str) -> list[Members]:
    value = members.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _text(members: Members, key: str) -> str:
    value = members.get(key)
    return value if isinstance(value, str) else ""


def _texts(members: Members, key: str) -> list[str]:
    value = members.get(key)
    return [entry for entry in value if isinstance(entry, str)] if isinstance(value, list) else []
