"""A checkpoint is what its index and its config.json say, or it is refused by the tensor at fault."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.config import EngineConfig
from engine.errors import UnsupportedModel
from engine.model.checkpoint import INDEX_FILE, read_headers
from engine.model.config import EMBEDDING, read_config
from engine.model.transformer import LINEARS
from engine.model.weights import load_transformer

NORM = "model.layers.1.mlp.up_proj.weight"


def load(directory: Path) -> torch.Tensor:
    """The embedding of the loaded base."""
    config = EngineConfig(base=directory, quantization="fp32", num_slots=1, kv_blocks=1)
    return load_transformer(config, read_config(directory), 1).embedding


def tensors_of(base: Path) -> dict[str, torch.Tensor]:
    return load_file(base / "model.safetensors")


def write(base: Path, directory: Path, files: Mapping[str, Mapping[str, torch.Tensor]]) -> Path:
    """A copy of the base whose tensors lie in these files, without an index."""
    for file in ("config.json", "generation_config.json"):
        shutil.copy(base / file, directory)
    for file, tensors in files.items():
        save_file(dict(tensors), directory / file)
    return directory


@pytest.fixture
def sharded(base: Path, tmp_path: Path) -> Path:
    """The small base in two files with an index."""
    tensors = tensors_of(base)
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    write(base, tmp_path, {file: {name: tensors[name] for name in part} for file, part in parts.items()})
    index = {"metadata": {}, "weight_map": {name: file for file, part in parts.items() for name in part}}
    (tmp_path / INDEX_FILE).write_text(json.dumps(index))
    return tmp_path


def edit_index(directory: Path, **changes: str | None) -> None:
    index = json.loads((directory / INDEX_FILE).read_text())
    files = index["weight_map"] | changes
    index["weight_map"] = {name: file for name, file in files.items() if file is not None}
    (directory / INDEX_FILE).write_text(json.dumps(index))


def test_a_checkpoint_in_several_files_is_the_same_base(base: Path, sharded: Path) -> None:
    assert torch.equal(load(sharded), load(base))


def test_a_file_that_the_index_promises_and_is_not_there_is_named(sharded: Path) -> None:
    (sharded / "model-2.safetensors").unlink()
    with pytest.raises(UnsupportedModel, match=r"in model-2\.safetensors, and that file is missing"):
        load(sharded)


def test_a_tensor_that_the_index_promises_and_is_not_there_is_named(sharded: Path) -> None:
    edit_index(sharded, more="model-1.safetensors")
    with pytest.raises(UnsupportedModel, match=r"promises 'more' in model-1\.safetensors, and it is missing"):
        load(sharded)


def test_a_tensor_in_another_file_than_the_index_says_is_refused(sharded: Path) -> None:
    edit_index(sharded, **{NORM: "model-9.safetensors"})
    with pytest.raises(UnsupportedModel, match=r"up_proj\.weight' in model-9\.safetensors, it is in model-"):
        load(sharded)


def test_a_tensor_that_the_index_does_not_name_is_refused(sharded: Path) -> None:
    edit_index(sharded, **{NORM: None})
    with pytest.raises(
        UnsupportedModel, match=r"up_proj\.weight', which model\.safetensors\.index\.json does not name"
    ):
        load(sharded)


@pytest.mark.parametrize("index", ["[]", "{}", "not JSON", '{"weight_map": 3}'])
def test_an_index_without_a_map_is_refused(sharded: Path, index: str) -> None:
    (sharded / INDEX_FILE).write_text(index)
    with pytest.raises(UnsupportedModel, match="holds no weight_map"):
        load(sharded)


def test_a_tensor_in_two_files_is_refused(base: Path, tmp_path: Path) -> None:
    tensors = tensors_of(base)
    write(base, tmp_path, {"a.safetensors": tensors, "b.safetensors": {NORM: tensors[NORM]}})
    with pytest.raises(UnsupportedModel, match=r"is in a\.safetensors and b\.safetensors"):
        load(tmp_path)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(base: Path, tmp_path: Path) -> None:
    tensors = tensors_of(base)
    write(base, tmp_path, {"model.safetensors": {**tensors, NORM: tensors[NORM][:-1].contiguous()}})
    with pytest.raises(UnsupportedModel, match=r"up_proj.weight' has shape \[95, 64\], config.json needs \[96, 64\]"):
        load(tmp_path)


def test_a_tensor_that_is_missing_or_too_many_is_named(base: Path, tmp_path: Path) -> None:
    tensors = tensors_of(base)
    write(base, tmp_path, {"model.safetensors": {name: t for name, t in tensors.items() if name != NORM}})
    with pytest.raises(UnsupportedModel, match=r"has no tensor 'model.layers.1.mlp.up_proj.weight'"):
        load(tmp_path)
    write(base, tmp_path, {"model.safetensors": {**tensors, "model.visual.weight": torch.ones(2)}})
    with pytest.raises(UnsupportedModel, match=r"no place for tensor 'model.visual.weight'"):
        load(tmp_path)


def test_a_tied_head_that_is_stored_all_the_same_is_not_used(base: Path, tmp_path: Path) -> None:
    tensors = tensors_of(base)
    write(base, tmp_path, {"model.safetensors": {**tensors, "lm_head.weight": torch.ones(3)}})
    assert torch.equal(load(tmp_path), load(base))


def test_a_file_that_was_cut_short_is_named(base: Path, tmp_path: Path) -> None:
    write(base, tmp_path, {"model.safetensors": tensors_of(base)})
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnsupportedModel, match=r"model\.safetensors is not a readable safetensors file"):
        load(tmp_path)


def test_the_shapes_of_a_config_are_those_of_the_checkpoint(base: Path) -> None:
    shape = read_config(base)
    assert {name: header.shape for name, header in read_headers(base).items()} == shape.tensor_shapes()
    assert tuple(shape.linear_shapes) == LINEARS


def test_the_size_of_the_embedding_is_read_from_the_checkpoint_first(base: Path, tmp_path: Path) -> None:
    assert read_config(base).embedding_itemsize == 4
    tensors = tensors_of(base)
    write(base, tmp_path, {"model.safetensors": {**tensors, EMBEDDING: tensors[EMBEDDING].bfloat16()}})
    assert read_config(tmp_path).embedding_itemsize == 2
    (tmp_path / "model.safetensors").unlink()
    assert read_config(tmp_path).embedding_itemsize == 4


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UnsupportedModel, match=r"config\.json"):
        read_config(tmp_path)


def test_a_directory_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"config\.json cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize("value", [0, -2, 1.5, True, "many"])
def test_a_size_that_is_no_count_is_named(base: Path, tmp_path: Path, value: object) -> None:
    config = json.loads((base / "config.json").read_text()) | {"num_hidden_layers": value}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match=r"num_hidden_layers is .*, not a whole number above 0"):
        read_config(tmp_path)


def test_an_embedding_of_an_unknown_type_is_refused(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text()) | {"dtype": "float8_e4m3fn"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModel, match="stored as float8_e4m3fn"):
        read_config(tmp_path)
