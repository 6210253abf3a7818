"""Packages: what is read, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from pickle import dumps

import pytest
import torch
from safetensors.torch import save

from adapters_store.errors import PackageInvalid
from adapters_store.manifest import (
    CONFIG_FILE,
    GRAMMAR_FILE,
    README_FILE,
    SOFT_PROMPT_FILE,
    WEIGHTS_FILE,
    AdapterSpec,
    GrammarRef,
)
from adapters_store.package import (
    MANIFEST_FILE,
    read_manifest,
    read_package,
    write_package,
)
from adapters_store.tensors import SOFT_PROMPT_TENSOR
from tests.unit.adapters_store.packages import (
    HIDDEN,
    PREFIX,
    ia3_files,
    ia3_manifest,
    lora_config,
    lora_files,
    lora_manifest,
    lora_tensors,
    write_unchecked,
)

LORA = lora_manifest()


def refusal(directory: Path) -> str:
    with pytest.raises(PackageInvalid) as refused:
        read_package(directory)
    assert refused.value.name == directory.name
    return refused.value.fault


def test_a_package_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_package(tmp_path / "tiny", LORA, lora_files(0.5))
    adapter = read_package(tmp_path / "tiny")
    assert adapter.manifest == written
    assert [entry.name for entry in written.files] == [CONFIG_FILE, WEIGHTS_FILE]
    assert adapter.config["lora_alpha"] == 4
    assert adapter.tensors.keys() == lora_tensors().keys()
    assert all(torch.equal(adapter.tensors[key], value) for key, value in lora_tensors(0.5).items())
    assert adapter.num_bytes == 2 * 2 * HIDDEN * 4
    assert adapter.num_bytes <= written.tensor_bytes
    assert adapter.soft_prompt is None
    assert adapter.grammar is None


def test_a_soft_prompt_and_a_grammar_come_with_it(tmp_path: Path) -> None:
    manifest = replace(ia3_manifest(), grammar=GrammarRef(file=GRAMMAR_FILE))
    files = ia3_files() | {GRAMMAR_FILE: 'root ::= "é"'.encode(), README_FILE: b"# Tiny"}
    write_package(tmp_path / "tiny", manifest, files)
    adapter = read_package(tmp_path / "tiny")
    assert adapter.soft_prompt is not None
    assert adapter.soft_prompt.shape == (3, HIDDEN)
    assert adapter.grammar == 'root ::= "é"'
    assert adapter.num_bytes == (HIDDEN + 3 * HIDDEN) * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_dtype_of_the_tensors_is_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    write_package(tmp_path / "tiny", LORA, lora_files() | {WEIGHTS_FILE: save(lora_tensors(1, dtype))})
    assert {tensor.dtype for tensor in read_package(tmp_path / "tiny").tensors.values()} == {dtype}


def test_what_was_read_cannot_be_rebound(tmp_path: Path) -> None:
    write_package(tmp_path / "tiny", LORA, lora_files())
    adapter = read_package(tmp_path / "tiny")
    with pytest.raises(TypeError):
        adapter.tensors["x"] = torch.ones(1)  # type: ignore[index]
    with pytest.raises(TypeError):
        adapter.config["r"] = 4  # type: ignore[index]


def test_equal_content_is_one_generation_and_any_change_another(tmp_path: Path) -> None:
    variants = {
        "same": (LORA, lora_files()),
        "weights": (LORA, lora_files(2)),
        "config": (LORA, lora_files() | {CONFIG_FILE: lora_config(lora_alpha=8)}),
        "manifest": (replace(LORA, version="1.2.4"), lora_files()),
    }
    write_package(tmp_path / "tiny", LORA, lora_files())
    generations = {"original": read_package(tmp_path / "tiny").generation}
    for variant, (manifest, files) in variants.items():
        write_package(tmp_path / variant / "tiny", manifest, files)
        generations[variant] = read_package(tmp_path / variant / "tiny").generation
    assert generations["same"] == generations["original"]
    assert len(set(generations.values())) == 4


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    with (tiny / WEIGHTS_FILE).open("ab") as file:
        file.write(b"\0")
    size = len(lora_files()[WEIGHTS_FILE])
    assert refusal(tiny) == f"{WEIGHTS_FILE} has {size + 1} bytes, the manifest says {size}"


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_one_flipped_bit_is_refused(tmp_path: Path, name: str) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    content = bytearray((tiny / name).read_bytes())
    content[-1] ^= 1
    (tiny / name).write_bytes(content)
    assert f"{name} has the sha256 " in refusal(tiny)


@pytest.mark.parametrize("kept", [0, 4, 8, 40, -1])
def test_truncated_safetensors_are_refused(tmp_path: Path, kept: int) -> None:
    files = lora_files()
    files[WEIGHTS_FILE] = files[WEIGHTS_FILE][:kept]
    tiny = write_unchecked(tmp_path / "tiny", LORA, files)
    assert f"{WEIGHTS_FILE} is not a readable safetensors file" in refusal(tiny)


def test_a_pickle_is_refused_by_its_name_and_by_its_content(tmp_path: Path) -> None:
    pickle = dumps({"weights": [1.0]})
    renamed = write_unchecked(tmp_path / "renamed" / "tiny", LORA, lora_files() | {WEIGHTS_FILE: pickle})
    assert "is not a readable safetensors file" in refusal(renamed)
    listed = write_unchecked(tmp_path / "tiny", LORA, lora_files() | {"adapter_model.bin": pickle})
    assert "$.files[2].name: 'adapter_model.bin' is not one of" in refusal(listed)


@pytest.mark.parametrize("name", ["adapter_model.bin", "soft_prompt.pt", "run.py", ".hidden"])
def test_a_file_that_is_not_listed_is_refused(tmp_path: Path, name: str) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    (tiny / name).write_bytes(b"")
    assert refusal(tiny) == f"{name} is not listed in the manifest"


def test_a_file_that_is_listed_and_missing_is_refused(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    (tiny / CONFIG_FILE).unlink()
    assert refusal(tiny) == f"{CONFIG_FILE} is listed but missing"


def test_a_link_out_of_the_package_is_refused(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    (tiny / WEIGHTS_FILE).rename(tmp_path / "elsewhere")
    (tiny / WEIGHTS_FILE).symlink_to(tmp_path / "elsewhere")
    assert refusal(tiny) == f"{WEIGHTS_FILE} is a link, not a plain file"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    tensors = lora_tensors(1, dtype)
    tensors[f"{PREFIX}.lora_B.weight"][3, 1] = value
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files() | {WEIGHTS_FILE: save(tensors)})
    assert refusal(tiny) == f"{WEIGHTS_FILE}: {PREFIX}.lora_B.weight holds a value that is not finite"


def test_a_soft_prompt_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    rows = {SOFT_PROMPT_TENSOR: torch.full((3, HIDDEN), float("nan"))}
    tiny = write_unchecked(tmp_path / "tiny", ia3_manifest(), ia3_files() | {SOFT_PROMPT_FILE: save(rows)})
    assert "prompt_embeddings holds a value that is not finite" in refusal(tiny)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float64, torch.float8_e4m3fn, torch.bool])
def test_a_dtype_that_nobody_serves_is_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {"weight": torch.ones(2, 2).to(dtype)}
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files() | {WEIGHTS_FILE: save(tensors)})
    assert refusal(tiny) == f"{WEIGHTS_FILE}: weight is {dtype}, not float32, float16 or bfloat16"


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files() | {WEIGHTS_FILE: save({})})
    assert refusal(tiny) == f"{WEIGHTS_FILE} holds no tensor"


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"rows": torch.ones(3, HIDDEN)}, "holds rows, not prompt_embeddings alone"),
        ({SOFT_PROMPT_TENSOR: torch.ones(3, HIDDEN), "x": torch.ones(1)}, "holds prompt_embeddings, x, not"),
        ({SOFT_PROMPT_TENSOR: torch.ones(4, HIDDEN)}, "has the shape [4, 8], not [3, hidden]"),
        ({SOFT_PROMPT_TENSOR: torch.ones(3)}, "has the shape [3], not [3, hidden]"),
    ],
)
def test_a_soft_prompt_of_another_shape_is_refused(
    tmp_path: Path, tensors: dict[str, torch.Tensor], fault: str
) -> None:
    tiny = write_unchecked(tmp_path / "tiny", ia3_manifest(), ia3_files() | {SOFT_PROMPT_FILE: save(tensors)})
    assert f"{SOFT_PROMPT_FILE} {fault}" in refusal(tiny)


@pytest.mark.parametrize(
    ("spec", "config", "fault"),
    [
        (AdapterSpec("dora", 2, ("q_proj",)), {}, "has use_dora False, the manifest says dora"),
        (
            AdapterSpec("lora", 2, ("q_proj",)),
            {"use_dora": True},
            "has use_dora True, the manifest says lora",
        ),
        (AdapterSpec("lokr", 2, ("q_proj",)), {}, "has peft_type 'LORA', the manifest says lokr"),
        (AdapterSpec("ia3", None, ("q_proj",)), {}, "has peft_type 'LORA', the manifest says ia3"),
        (AdapterSpec("lora", 4, ("q_proj",)), {}, "has rank 2, the manifest 4"),
        (AdapterSpec("lora", 2, ("q_proj",)), {"r": 8}, "has rank 8, the manifest 2"),
    ],
)
def test_a_manifest_that_contradicts_the_config_is_refused(
    tmp_path: Path, spec: AdapterSpec, config: dict[str, object], fault: str
) -> None:
    files = lora_files() | {CONFIG_FILE: lora_config(**config)}
    tiny = write_unchecked(tmp_path / "tiny", replace(LORA, adapter=spec), files)
    assert refusal(tiny) == f"{CONFIG_FILE} {fault}"


@pytest.mark.parametrize("config", [b"", b"{", b"\xff", b'{"r": NaN}'])
def test_a_config_that_is_not_json_is_refused(tmp_path: Path, config: bytes) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files() | {CONFIG_FILE: config})
    assert f"{CONFIG_FILE} is not JSON in UTF-8" in refusal(tiny)


def test_a_config_that_is_no_object_is_refused(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files() | {CONFIG_FILE: b"[]"})
    assert refusal(tiny) == f"{CONFIG_FILE} is not an object"


def test_a_grammar_that_is_not_text_is_refused(tmp_path: Path) -> None:
    manifest = replace(LORA, grammar=GrammarRef(file=GRAMMAR_FILE))
    tiny = write_unchecked(tmp_path / "tiny", manifest, lora_files() | {GRAMMAR_FILE: b"root ::= \xff"})
    assert f"{GRAMMAR_FILE} is not UTF-8" in refusal(tiny)


def test_a_bare_peft_directory_is_refused_with_the_reason(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    (tiny / MANIFEST_FILE).unlink()
    assert refusal(tiny) == (
        "there is no manifest.json; `hotseat experts import` makes a package of a bare PEFT adapter"
    )


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    assert refusal(tmp_path / "tiny") == "there is no manifest.json"


def test_a_faulty_manifest_is_refused_with_the_path_of_the_fault(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    members = json.loads((tiny / MANIFEST_FILE).read_text())
    members["adapter"]["rank"] = -1
    (tiny / MANIFEST_FILE).write_text(json.dumps(members))
    assert refusal(tiny).startswith("manifest.json: $.adapter.rank: expected an integer")


def test_a_manifest_of_a_megabyte_is_refused_unread(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files())
    (tiny / MANIFEST_FILE).write_bytes(b" " * (1 << 20) + b"{}")
    assert "manifest.json has 1048578 bytes" in refusal(tiny)


def test_a_directory_and_its_manifest_must_agree_on_the_name(tmp_path: Path) -> None:
    other = write_unchecked(tmp_path / "other", LORA, lora_files())
    assert refusal(other) == "its directory is called 'other', its manifest says 'tiny'"


def test_the_manifest_alone_can_be_read_without_the_contents(tmp_path: Path) -> None:
    tiny = write_unchecked(tmp_path / "tiny", LORA, lora_files() | {WEIGHTS_FILE: b"no tensors"})
    assert read_manifest(tiny).name == "tiny"
