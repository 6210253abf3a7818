"""The schema of manifest.json, both ways."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from adapters_store.errors import ManifestInvalid
from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    GrammarRef,
    Manifest,
    parse_manifest,
)
from tests.unit.adapters_store.packages import entry, ia3_manifest, lora_manifest
from tests.unit.adapters_store.strategies import manifests

FILES = (entry(CONFIG_FILE, b"{}"), entry(WEIGHTS_FILE, b"weights"))
VALID = replace(lora_manifest(), files=FILES)


@given(manifests())
def test_every_manifest_survives_the_round_trip(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_json()) == manifest


@given(manifests())
def test_writing_is_canonical(manifest: Manifest) -> None:
    raw = manifest.to_json()
    assert parse_manifest(raw).to_json() == raw
    assert raw.endswith(b"}\n")


def test_it_is_written_for_people_too() -> None:
    text = replace(VALID, description="Extração").to_json().decode()
    assert text.startswith('{\n  "schema_version": 2,\n  "name": "tiny",')
    assert "Extração" in text
    assert "null" not in text


def test_only_what_is_needed_must_be_there() -> None:
    members = json.loads(VALID.to_json())
    for optional in ("routing", "decoding", "tags"):
        del members[optional]
    assert parse_manifest(json.dumps(members).encode()) == replace(VALID, routing=type(VALID.routing)())


@pytest.mark.parametrize(("manifest", "label"), [(lora_manifest(), "lora"), (ia3_manifest(), "ia3+soft_prompt")])
def test_the_kind_label_names_the_soft_prompt(manifest: Manifest, label: str) -> None:
    assert manifest.kind_label == label


def test_the_tensor_bytes_are_those_of_the_tensor_files() -> None:
    files = (*FILES, entry(SOFT_PROMPT_FILE, b"rows"), entry(GRAMMAR_FILE, b"root"))
    assert replace(VALID, files=files).tensor_bytes == len(b"weights") + len(b"rows")


BAD_DIGEST = {"name": CONFIG_FILE, "size": 1, "sha256": "0" * 63}
FAULTS: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("schema_version",), 3, "$.schema_version"),
    (("schema_version",), 0, "$.schema_version"),
    (("schema_version",), True, "$.schema_version"),
    (("name",), "Tiny", "$.name"),
    (("name",), "../tiny", "$.name"),
    (("name",), "tiny\n", "$.name"),
    (("name",), "a" * 65, "$.name"),
    (("name",), "", "$.name"),
    (("version",), "1.2", "$.version"),
    (("version",), "01.2.3", "$.version"),
    (("version",), "1.2.3-01", "$.version"),
    (("description",), 3, "$.description"),
    (("base",), "nano", "$.base"),
    (("base",), "sha256:" + "A" * 64, "$.base"),
    (("adapter",), [], "$.adapter"),
    (("adapter", "kind"), "pissa", "$.adapter.kind"),
    (("adapter", "kind"), None, "$.adapter.kind"),
    (("adapter", "kind"), "ia3", "$.adapter.rank"),
    (("adapter", "rank"), None, "$.adapter.rank"),
    (("adapter", "rank"), 0, "$.adapter.rank"),
    (("adapter", "targets"), [], "$.adapter.targets"),
    (("adapter", "targets"), ["q_proj", "q proj"], "$.adapter.targets[1]"),
    (("adapter", "alpha"), 4, "$.adapter.alpha"),
    (("soft_prompt",), {"tokens": 0}, "$.soft_prompt.tokens"),
    (("soft_prompt",), {"tokens": 8}, "$.files"),
    (("routing", "cues"), ["fine one", 3], "$.routing.cues[1]"),
    (("routing", "cues"), ["to"], "$.routing.cues[0]"),
    (("routing", "cues"), ["extract ..."], "$.routing.cues[0]"),
    (("routing", "excludes"), ["^ ... json"], "$.routing.excludes[0]"),
    (("routing", "examples"), "text", "$.routing.examples"),
    (("routing", "keywords"), [], "$.routing.keywords"),
    (("decoding", "temperature"), 2.1, "$.decoding.temperature"),
    (("decoding", "top_p"), 0, "$.decoding.top_p"),
    (("decoding", "top_k"), -1, "$.decoding.top_k"),
    (("decoding", "min_p"), "0", "$.decoding.min_p"),
    (("decoding", "repetition_penalty"), 0, "$.decoding.repetition_penalty"),
    (("decoding", "max_tokens"), 0, "$.decoding.max_tokens"),
    (("grammar",), {}, "$.grammar"),
    (("grammar",), {"library": "json", "file": GRAMMAR_FILE}, "$.grammar"),
    (("grammar",), {"library": "../json"}, "$.grammar.library"),
    (("grammar",), {"file": "/etc/passwd"}, "$.grammar.file"),
    (("grammar",), {"file": GRAMMAR_FILE}, "$.files"),
    (("tags",), ["one two"], "$.tags[0]"),
    (("license",), 1, "$.license"),
    (("source",), 1, "$.source"),
    (("files",), [], "$.files"),
    (("files", 0, "name"), "adapter_model.bin", "$.files[0].name"),
    (("files", 0, "name"), "../adapter_config.json", "$.files[0].name"),
    (("files", 0, "size"), -1, "$.files[0].size"),
    (("files", 0), BAD_DIGEST, "$.files[0].sha256"),
    (("files", 0, "name"), GRAMMAR_FILE, "$.files"),
    (("author",), "me", "$.author"),
]


@pytest.mark.parametrize(("place", "value", "path"), FAULTS)
def test_every_fault_names_its_json_path(place: tuple[str | int, ...], value: object, path: str) -> None:
    members = parent = json.loads(VALID.to_json())
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(json.dumps(members).encode())
    assert refusal.value.path == path
    assert str(refusal.value).startswith(f"manifest.json: {path}: ")


@pytest.mark.parametrize("key", ["schema_version", "name", "version", "description", "base", "adapter", "files"])
def test_what_is_needed_and_missing_is_named(key: str) -> None:
    members = json.loads(VALID.to_json())
    del members[key]
    with pytest.raises(ManifestInvalid, match=rf"\$\.{key}: is missing"):
        parse_manifest(json.dumps(members).encode())


def test_a_file_that_is_listed_twice_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="lists a file twice"):
        parse_manifest(replace(VALID, files=(*FILES, FILES[0])).to_json())


def test_a_file_that_nothing_uses_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match=f"lists {GRAMMAR_FILE}, which the manifest does not use"):
        library = GrammarRef(library="json")
        parse_manifest(replace(VALID, grammar=library, files=(*FILES, entry(GRAMMAR_FILE, b""))).to_json())


def test_an_adapter_of_version_1_that_names_no_kind_is_a_lora() -> None:
    members = json.loads(VALID.to_json()) | {"schema_version": 1}
    del members["adapter"]["kind"]
    manifest = parse_manifest(json.dumps(members).encode())
    assert (manifest.adapter.kind, manifest.adapter.rank, manifest.schema_version) == ("lora", 2, 1)
    assert replace(manifest, schema_version=2) == VALID


def test_version_1_does_not_know_what_came_later() -> None:
    members = json.loads(VALID.to_json()) | {"schema_version": 1, "source": "elsewhere"}
    with pytest.raises(ManifestInvalid, match=r"\$\.source: is not a known key"):
        parse_manifest(json.dumps(members).encode())


@pytest.mark.parametrize("document", [b"[]", b"{}", b"2", b"null"])
def test_what_has_no_version_is_refused(document: bytes) -> None:
    with pytest.raises(ManifestInvalid) as refusal:
        parse_manifest(document)
    assert refusal.value.code == "manifest_invalid"


def test_an_unknown_version_has_a_code_of_its_own() -> None:
    with pytest.raises(ManifestInvalid, match="version 3 is unknown, this build reads 1 and 2") as refusal:
        parse_manifest(b'{"schema_version": 3, "whatever": "comes"}')
    assert refusal.value.code == "manifest_version"
