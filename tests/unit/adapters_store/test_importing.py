"""Other people's adapters as packages that the store serves."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from adapters_store.errors import PackageInvalid
from adapters_store.hivellm import import_hivellm, is_hivellm
from adapters_store.importing import Imported, import_peft, migrate
from adapters_store.installer import Installer
from adapters_store.manifest import CONFIG_FILE, GRAMMAR_FILE, SOFT_PROMPT_FILE, WEIGHTS_FILE, parse_manifest
from adapters_store.package import MANIFEST_FILE
from adapters_store.store import AdapterStore
from tests.unit.adapters_store.packages import ia3_files, lora_config, lora_files
from tests.unit.adapters_store.test_installer import content

BASE = "sha256:" + "ab" * 32
REST = {"README.md": b"# Tiny", "training_args.bin": b"\x80", "tokenizer.json": b"{}"}


def served(root: Path, imported: Imported) -> Any:
    """As the store gives it, after an installation like any other."""
    Installer(root).install(imported.content)
    with AdapterStore(root, 1 << 20).fetch(imported.name) as lease:
        return lease.adapter


def code_of(act: Any) -> str:
    with pytest.raises(PackageInvalid) as refused:
        act()
    assert refused.value.fault
    return refused.value.code


def test_a_bare_peft_adapter_becomes_an_expert(tmp_path: Path) -> None:
    imported = import_peft({**lora_files(), **REST}, "tiny", BASE, "Says nothing.")
    adapter = served(tmp_path, imported)
    assert (adapter.manifest.base, adapter.manifest.description) == (BASE, "Says nothing.")
    assert (adapter.manifest.adapter.kind, adapter.manifest.adapter.rank) == ("lora", 2)
    assert adapter.manifest.source == "PEFT adapter"
    assert imported.ignored == ("tokenizer.json", "training_args.bin")


def test_a_soft_prompt_and_a_grammar_beside_the_adapter_come_along(tmp_path: Path) -> None:
    files = {**ia3_files(), GRAMMAR_FILE: b'root ::= "a"'}
    adapter = served(tmp_path, import_peft(files, "tiny", BASE))
    assert adapter.manifest.kind_label == "ia3+soft_prompt"
    assert adapter.soft_prompt.shape[0] == adapter.manifest.soft_prompt.tokens == 3
    assert adapter.grammar == 'root ::= "a"'


@pytest.mark.parametrize("targets", ["all-linear", "q_proj|v_proj", None, []])
def test_targets_that_are_a_pattern_are_read_off_the_tensors(tmp_path: Path, targets: object) -> None:
    files = lora_files() | {CONFIG_FILE: lora_config(target_modules=targets)}
    assert served(tmp_path, import_peft(files, "tiny", BASE)).manifest.adapter.targets == ("q_proj",)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({WEIGHTS_FILE: None}, "file_missing"),
        ({CONFIG_FILE: None}, "file_missing"),
        ({WEIGHTS_FILE: None, "adapter_model.bin": b"\x80"}, "pickle_refused"),
        ({"soft_prompt.pt": b"\x80"}, "pickle_refused"),
        ({CONFIG_FILE: lora_config(peft_type="VERA")}, "import_unsupported"),
        ({CONFIG_FILE: lora_config(peft_type=None)}, "import_unsupported"),
        ({CONFIG_FILE: lora_config(r="8")}, "config_invalid"),
        ({CONFIG_FILE: lora_config(target_modules=["q proj"])}, "import_unsupported"),
        ({CONFIG_FILE: b"["}, "config_invalid"),
        ({SOFT_PROMPT_FILE: save({"x": torch.ones(2)})}, "soft_prompt_invalid"),
    ],
)
def test_what_cannot_become_an_expert_is_refused(change: dict[str, bytes | None], code: str) -> None:
    files = {name: data for name, data in {**lora_files(), **change}.items() if data is not None}
    assert code_of(lambda: import_peft(files, "tiny", BASE)) == code


def test_a_pickle_is_refused_with_the_way_out() -> None:
    files = {CONFIG_FILE: lora_config(), "adapter_model.bin": b"\x80"}
    with pytest.raises(PackageInvalid, match=r"convert it once: safetensors\.torch\.save_file"):
        import_peft(files, "tiny", BASE)


def test_a_name_that_cannot_be_one_is_refused() -> None:
    assert code_of(lambda: import_peft(lora_files(), "../tiny", BASE)) == "name_invalid"


def hive_v1(**changes: object) -> dict[str, object]:
    adapter = {"type": "lora", "path": "weights/adapter", "r": 2, "sha256": ""}
    return {
        "name": "expert-tiny",
        "version": "0.3.0",
        "schema_version": "1.0",
        "description": "Says nothing.",
        "base_model": {"name": "F:/models/Qwen3-0.6B", "sha256": ""},
        "adapters": [adapter],
        "routing": {"keywords": ["sql", "group by", "get"], "exclude_keywords": ["what is", "a"]},
        "training": {"decoding": {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "min_p": 0, "stop_sequences": [";"]}},
        "tags": ["sql", "two words"],
        "license": "cc-by-4.0",
        **changes,
    }


def hive_v2(*models: str, **changes: object) -> dict[str, object]:
    members = hive_v1(schema_version="2.0", **changes)
    adapters = members.pop("adapters")
    members.pop("base_model")
    return {**members, "base_models": [{"name": model, "adapters": adapters} for model in models]}


def hive_files(members: dict[str, object], folder: str = "weights/adapter/") -> dict[str, bytes]:
    return {
        MANIFEST_FILE: json.dumps(members).encode(),
        **{folder + name: data for name, data in lora_files().items()},
        folder + "training_args.bin": b"\x80",
        GRAMMAR_FILE: b'root ::= "a"',
        "tests/cases.json": b"[]",
    }


@pytest.mark.parametrize(
    ("members", "folder"),
    [
        (hive_v1(), "weights/adapter/"),
        (hive_v1(), ""),
        (hive_v2("F:/models/Qwen3-0.6B"), "weights/adapter/"),
        (hive_v2("F:\\models\\Qwen3-0.6B"), ""),
    ],
)
def test_a_hivellm_archive_becomes_an_expert(tmp_path: Path, members: dict[str, object], folder: str) -> None:
    files = hive_files(members, folder)
    assert is_hivellm(files)
    imported = import_hivellm(files, BASE)
    manifest = served(tmp_path, imported).manifest
    assert (manifest.name, manifest.version, manifest.license) == ("expert-tiny", "0.3.0", "cc-by-4.0")
    assert (manifest.routing.cues, manifest.routing.excludes) == (("group by",), ("what is",))
    assert (manifest.decoding.temperature, manifest.decoding.top_k, manifest.decoding.min_p) == (0.7, 20, 0.0)
    assert (manifest.tags, manifest.grammar.file) == (("sql",), GRAMMAR_FILE)
    assert manifest.source.endswith("expert-tiny 0.3.0 for Qwen3-0.6B")
    assert (
        imported.ignored
        == (f"{folder}training_args.bin", "tests/cases.json")[:: 1 if folder < "tests" and folder else -1]
    )


def test_of_several_bases_one_is_chosen() -> None:
    files = hive_files(hive_v2("Qwen3-0.6B", "models/Qwen3-1.7B"))
    with pytest.raises(PackageInvalid, match=r"made for Qwen3-0\.6B, Qwen3-1\.7B; choose one with --model"):
        import_hivellm(files, BASE)
    imported = import_hivellm(files, BASE, name="mine", model="Qwen3-1.7B")
    assert imported.name == "mine"
    assert parse_manifest(imported.content[MANIFEST_FILE]).source == "HiveLLM 2.0: expert-tiny 0.3.0 for Qwen3-1.7B"


def test_the_digest_of_a_hivellm_adapter_is_checked_where_it_has_one() -> None:
    digest = hashlib.sha256(lora_files()[WEIGHTS_FILE]).hexdigest()
    path = "weights/adapter.safetensors"
    files = {f"weights/{CONFIG_FILE}": lora_config(), path: lora_files()[WEIGHTS_FILE]}
    for sha256, is_good in ((digest, True), ("0" * 64, False), ("adapter_hash", True)):
        members = hive_v1(adapters=[{"path": path, "sha256": sha256}])
        archive = {**files, MANIFEST_FILE: json.dumps(members).encode()}
        if is_good:
            assert import_hivellm(archive, BASE).content[WEIGHTS_FILE] == lora_files()[WEIGHTS_FILE]
        else:
            assert code_of(lambda archive=archive: import_hivellm(archive, BASE)) == "file_digest"


def test_a_pickled_soft_prompt_is_refused_and_a_converted_one_taken() -> None:
    members = hive_v1(soft_prompts=[{"path": "soft_prompts/intro.pt", "tokens": 3}])
    files = hive_files(members) | {"soft_prompts/intro.pt": b"\x80"}
    with pytest.raises(PackageInvalid, match=r"soft_prompts/intro\.pt is a pickle.*into soft_prompt\.safetensors"):
        import_hivellm(files, BASE)
    converted = files | {SOFT_PROMPT_FILE: ia3_files()[SOFT_PROMPT_FILE]}
    assert SOFT_PROMPT_FILE in import_hivellm(converted, BASE).content


@pytest.mark.parametrize(
    ("members", "code"),
    [
        (hive_v1(schema_version="3.0"), "manifest_version"),
        (hive_v1(adapters=[]), "import_unsupported"),
        (hive_v1(adapters=[{"path": "a"}, {"path": "b"}]), "import_unsupported"),
        (hive_v1(adapters=[{"path": "../../etc"}]), "file_missing"),
        (hive_v1(name="../x"), "name_invalid"),
        (hive_v1(name=3), "name_invalid"),
        (hive_v1(description="\ud800"), "import_unsupported"),
        (hive_v2(), "import_unsupported"),
    ],
)
def test_a_hivellm_archive_that_cannot_become_an_expert_is_refused(members: dict[str, object], code: str) -> None:
    assert code_of(lambda: import_hivellm(hive_files(members), BASE)) == code


@pytest.mark.parametrize("version", ["1.2", "v1.2.3", "1.2.3.4", "01.2.3", "1" * 5000, "1.2.\u0663"])
def test_a_version_that_is_none_becomes_the_lowest(version: str) -> None:
    imported = import_hivellm(hive_files(hive_v1(version=version)), BASE)
    assert parse_manifest(imported.content[MANIFEST_FILE]).version == "0.0.0"


def test_decoding_out_of_range_is_left_to_the_server() -> None:
    decoding = {"temperature": 9, "top_p": 0, "top_k": 10**400, "min_p": True}
    imported = import_hivellm(hive_files(hive_v1(training={"decoding": decoding})), BASE)
    assert (
        parse_manifest(imported.content[MANIFEST_FILE]).decoding
        == type(parse_manifest(imported.content[MANIFEST_FILE]).decoding)()
    )


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}"])
def test_what_is_no_hivellm_manifest_is_not_taken_for_one(raw: bytes) -> None:
    assert not is_hivellm({MANIFEST_FILE: raw})
    assert not is_hivellm(content())


def test_a_package_of_version_1_is_migrated_and_serves_the_same(tmp_path: Path) -> None:
    files = content()
    members = json.loads(files[MANIFEST_FILE]) | {"schema_version": 1}
    del members["adapter"]["kind"]
    old = files | {MANIFEST_FILE: json.dumps(members).encode(), "manifest.sig": b"{}"}
    imported = migrate(old)
    assert imported.ignored == ("manifest.sig",)
    assert parse_manifest(imported.content[MANIFEST_FILE]).schema_version == 2
    assert served(tmp_path, imported).manifest.adapter.kind == "lora"
    assert migrate(imported.content) == Imported("a", imported.content, ())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({MANIFEST_FILE: b"{}"}, "manifest_invalid"),
        ({WEIGHTS_FILE: None}, "file_missing"),
        ({WEIGHTS_FILE: b"other"}, "file_digest"),
        ({"run.py": b""}, "file_unlisted"),
    ],
)
def test_a_package_that_is_not_whole_is_not_migrated(change: dict[str, bytes | None], code: str) -> None:
    files = {name: data for name, data in {**content(), **change}.items() if data is not None}
    assert code_of(lambda: migrate(files)) == code
