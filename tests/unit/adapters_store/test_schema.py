"""The published JSON Schema, beside the parser that decides."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from jsonschema import Draft202012Validator

from adapters_store import manifest as manifest_module
from adapters_store.errors import ManifestInvalid
from adapters_store.manifest import Manifest, parse_manifest
from tests.unit.adapters_store.strategies import manifests
from tests.unit.adapters_store.test_manifest import FAULTS, VALID

SCHEMA = json.loads(Path(manifest_module.__file__).with_name("manifest.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)
# What no schema, or no schema that people still read, can say.
ONLY_THE_PARSER = {"$.files", "$.grammar", "$.routing.cues[0]", "$.routing.excludes[0]"}


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@settings(deadline=None)
@given(manifests())
def test_what_the_parser_takes_is_valid(manifest: Manifest) -> None:
    raw = replace(manifest, schema_version=2).to_json()
    parse_manifest(raw)
    assert not list(VALIDATOR.iter_errors(json.loads(raw)))


@pytest.mark.parametrize(
    ("place", "value"),
    [(place, value) for place, value, path in FAULTS if path not in ONLY_THE_PARSER and value != "tiny\n"],
)
def test_what_the_parser_refuses_is_invalid(place: tuple[str | int, ...], value: Any) -> None:
    members = parent = json.loads(VALID.to_json())
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    with pytest.raises(ManifestInvalid):
        parse_manifest(json.dumps(members).encode())
    assert list(VALIDATOR.iter_errors(members))


@pytest.mark.parametrize("optional", ["soft_prompt", "routing", "decoding", "grammar", "tags", "license", "source"])
def test_null_means_absent_to_both(optional: str) -> None:
    members = json.loads(VALID.to_json()) | {optional: None}
    parse_manifest(json.dumps(members).encode())
    assert not list(VALIDATOR.iter_errors(members))
