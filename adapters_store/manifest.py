"""The manifest: what an expert package says about itself.

Owns the schema of `manifest.json`, both ways: version 2, which is published as `manifest.schema.json`, and version 1,
where an adapter that does not say its kind is a LoRA. Knows no tensors and touches no disk. `package` reads and writes
it; the router uses the routing hints, the server decoding defaults and grammar.
"""

import json
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Literal, cast, get_args

from adapters_store.json_node import HEX_32, JsonNode, parse_json

SCHEMA_VERSION = 2
_READABLE_VERSIONS = (1, 2)
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
SOFT_PROMPT_FILE = "soft_prompt.safetensors"
GRAMMAR_FILE = "grammar.gbnf"
README_FILE = "README.md"
SIGNATURE_FILE = "manifest.sig"
# A closed list: a pickle, a script or a template has no name under which it could come in.
PACKAGE_FILES = (CONFIG_FILE, WEIGHTS_FILE, SOFT_PROMPT_FILE, GRAMMAR_FILE, README_FILE)
MAX_FILE_BYTES = 4 << 30

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_NUMBER = r"(?:0|[1-9][0-9]*)"
_PRERELEASE = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_PRERELEASE}(?:\.{_PRERELEASE})*)?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_TAG = re.compile(r"\S+")

AdapterKind = Literal["lora", "dora", "ia3", "lokr"]


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    kind: AdapterKind
    rank: int | None  # None for IA3, which has none
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SoftPromptSpec:
    tokens: int


@dataclass(frozen=True, slots=True)
class RoutingHints:
    """Cues and excludes are phrases of whole words, case aside. `...` between words stands for other words of
    the same clause, a leading `^` for the beginning of a line.
    """

    cues: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DecodingDefaults:
    """What applies when a request is silent; None leaves the choice to the server."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class GrammarRef:
    """Exactly one is set: the name of a library grammar, or the package's own grammar file."""

    library: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    name: str
    version: str
    description: str
    base: str
    adapter: AdapterSpec
    soft_prompt: SoftPromptSpec | None = None
    routing: RoutingHints = RoutingHints()
    decoding: DecodingDefaults = DecodingDefaults()
    grammar: GrammarRef | None = None
    tags: tuple[str, ...] = ()
    license: str | None = None
    source: str | None = None  # what it was imported from, in words; since version 2
    files: tuple[FileEntry, ...] = ()
    schema_version: int = SCHEMA_VERSION

    @property
    def kind_label(self) -> str:
        """For people: `lora`, or `ia3+soft_prompt`."""
        return self.adapter.kind + ("+soft_prompt" if self.soft_prompt else "")

    @property
    def tensor_bytes(self) -> int:
        """No smaller than what the tensors take in memory: the files that hold them."""
        return sum(entry.size for entry in self.files if entry.name in (WEIGHTS_FILE, SOFT_PROMPT_FILE))

    def to_json(self) -> bytes:
        members = {"schema_version": self.schema_version, **_without_none(asdict(self))}
        return json.dumps(members, indent=2, ensure_ascii=False).encode() + b"\n"


def _without_none(members: dict[str, object]) -> dict[str, object]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in members.items()
        if value is not None
    }


def parse_manifest(raw: bytes) -> Manifest:
    """Raises ManifestInvalid, which names the JSON path of the first fault."""
    optional = ("soft_prompt", "routing", "decoding", "grammar", "tags", "license")
    required = ("schema_version", "name", "version", "description", "base", "adapter", "files")
    document = parse_json(raw)
    schema_version = _schema_version(document)
    root = document.fields(required, optional if schema_version == 1 else (*optional, "source"))
    manifest = Manifest(
        name=root["name"].text(64, NAME),
        version=root["version"].text(64, _SEMVER),
        description=root["description"].text(2000),
        base=root["base"].text(71, _FINGERPRINT),
        adapter=_adapter(root["adapter"], schema_version),
        soft_prompt=_soft_prompt(root["soft_prompt"]) if "soft_prompt" in root else None,
        routing=_routing(root["routing"]) if "routing" in root else RoutingHints(),
        decoding=_decoding(root["decoding"]) if "decoding" in root else DecodingDefaults(),
        grammar=_grammar(root["grammar"]) if "grammar" in root else None,
        tags=tuple(tag.text(64, _TAG) for tag in root["tags"].items(32)) if "tags" in root else (),
        license=root["license"].text(200) if "license" in root else None,
        source=root["source"].text(400) if "source" in root else None,
        files=tuple(_file(entry) for entry in root["files"].items(len(PACKAGE_FILES))),
        schema_version=schema_version,
    )
    _check_files(manifest, root["files"])
    return manifest


def _schema_version(document: JsonNode) -> int:
    """Read first, since it decides what else is known."""
    if not isinstance(document.value, dict):
        document.fields(("schema_version",))
    elif "schema_version" not in document.value:
        JsonNode(None, "$.schema_version").fail("is missing")
    node = JsonNode(cast(dict[str, object], document.value)["schema_version"], "$.schema_version")
    if node.integer(0, 1 << 31) not in _READABLE_VERSIONS:
        known = " and ".join(map(str, _READABLE_VERSIONS))
        node.fail(f"version {node.value} is unknown, this build reads {known}", "manifest_version")
    return node.integer(*_READABLE_VERSIONS)


def _adapter(node: JsonNode, schema_version: int) -> AdapterSpec:
    members = node.fields(("targets",), ("kind", "rank"))
    if "kind" not in members and schema_version > 1:
        JsonNode(None, f"{node.path}.kind").fail("is missing")
    kind = cast(AdapterKind, members["kind"].choice(get_args(AdapterKind)) if "kind" in members else "lora")
    if kind == "ia3" and "rank" in members:
        members["rank"].fail("IA3 has no rank")
    if kind != "ia3" and "rank" not in members:
        JsonNode(None, f"{node.path}.rank").fail(f"is missing, and {kind} has one")
    targets = tuple(target.text(200, _MODULE) for target in members["targets"].items(64))
    if not targets:
        members["targets"].fail("names no module")
    return AdapterSpec(kind, members["rank"].integer(1, 4096) if "rank" in members else None, targets)


def _soft_prompt(node: JsonNode) -> SoftPromptSpec:
    return SoftPromptSpec(node.fields(("tokens",))["tokens"].integer(1, 1024))


def _routing(node: JsonNode) -> RoutingHints:
    members = node.fields((), ("cues", "excludes", "examples"))
    return RoutingHints(
        cues=tuple(_phrase(cue) for cue in members["cues"].items(200)) if "cues" in members else (),
        excludes=tuple(_phrase(cue) for cue in members["excludes"].items(200)) if "excludes" in members else (),
        examples=tuple(text.text(4000) for text in members["examples"].items(200)) if "examples" in members else (),
    )


def _phrase(node: JsonNode) -> str:
    phrase = node.text(200)
    if sum(char.isalnum() for char in phrase) < 3:
        node.fail(f"{phrase!r} is too short: a phrase has at least three letters or digits")
    if not all(part.strip() for part in phrase.removeprefix("^").split("...")):
        node.fail(f"{phrase!r} has a gap that does not stand between words")
    return phrase


def _decoding(node: JsonNode) -> DecodingDefaults:
    members = node.fields((), tuple(field.name for field in fields(DecodingDefaults)))
    ranges = {"temperature": (0, 2), "top_p": (0, 1), "min_p": (0, 1), "repetition_penalty": (0.1, 10)}
    numbers = {name: members[name].number(*limits) for name, limits in ranges.items() if name in members}
    if numbers.get("top_p") == 0:
        members["top_p"].fail("0 leaves no token to choose")
    return DecodingDefaults(
        **numbers,
        top_k=members["top_k"].integer(0, 1 << 20) if "top_k" in members else None,
        max_tokens=members["max_tokens"].integer(1, 1 << 20) if "max_tokens" in members else None,
    )


def _grammar(node: JsonNode) -> GrammarRef:
    members = node.fields((), ("library", "file"))
    if len(members) != 1:
        node.fail("holds exactly one of `library` and `file`")
    if "library" in members:
        return GrammarRef(library=members["library"].text(64, NAME))
    return GrammarRef(file=members["file"].choice((GRAMMAR_FILE,)))


def _file(node: JsonNode) -> FileEntry:
    members = node.fields(("name", "size", "sha256"))
    return FileEntry(
        name=members["name"].choice(PACKAGE_FILES),
        size=members["size"].integer(0, MAX_FILE_BYTES),
        sha256=members["sha256"].text(64, HEX_32),
    )


def _check_files(manifest: Manifest, node: JsonNode) -> None:
    names: Collection[str] = [entry.name for entry in manifest.files]
    needed = {
        CONFIG_FILE: True,
        WEIGHTS_FILE: True,
        SOFT_PROMPT_FILE: manifest.soft_prompt is not None,
        GRAMMAR_FILE: manifest.grammar is not None and manifest.grammar.file is not None,
    }
    for name, is_needed in needed.items():
        if is_needed and name not in names:
            node.fail(f"does not list {name}, which the manifest needs")
        if not is_needed and name in names:
            node.fail(f"lists {name}, which the manifest does not use")
    if len(set(names)) < len(names):
        node.fail("lists a file twice")
