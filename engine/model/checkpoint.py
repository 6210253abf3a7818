"""What a checkpoint directory holds, from the headers of its safetensors files: names, shapes, dtypes, no values.

Knows neither torch nor any model; `config` and `weights` ask it. A checkpoint in several files comes with an index.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from engine.errors import UnsupportedModel

INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class TensorHeader:
    file: Path
    dtype: str
    """As safetensors names it: `BF16`, `F32`."""
    shape: tuple[int, ...]


def read_headers(directory: Path) -> dict[str, TensorHeader]:
    """Every tensor by name; none where there is no file. With an index, it has to name all tensors and their files.

    Raises UnsupportedModel for an unreadable file, a tensor in two files and for what differs from the index.
    """
    found: dict[str, TensorHeader] = {}
    for path in sorted(directory.glob("*.safetensors")):
        for name, header in _read_file(path).items():
            if name in found:
                raise UnsupportedModel(f"{directory}: tensor {name!r} is in {found[name].file.name} and {path.name}")
            found[name] = header
    if (directory / INDEX_FILE).exists():
        _check_index(directory, found)
    return found


def check_shapes(
    directory: Path, found: Mapping[str, TensorHeader], needed: Mapping[str, tuple[int, ...]], ignored: set[str]
) -> None:
    """Raises UnsupportedModel for the first tensor that is missing, of another shape, or of no use to the model."""
    for name, shape in needed.items():
        if name not in found:
            raise UnsupportedModel(f"{directory}: the checkpoint has no tensor {name!r}")
        if found[name].shape != shape:
            raise UnsupportedModel(
                f"{directory}: tensor {name!r} has shape {list(found[name].shape)}, config.json needs {list(shape)}"
            )
    if unused := found.keys() - needed.keys() - ignored:
        raise UnsupportedModel(f"{directory}: the model has no place for tensor {min(unused)!r}")


def _read_file(path: Path) -> dict[str, TensorHeader]:
    try:
        # The framework only says what values would become; none is read.
        with safe_open(path, "np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            return {
                name: TensorHeader(path, str(part.get_dtype()), tuple(part.get_shape()))
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as fault:
        raise UnsupportedModel(f"{path} is not a readable safetensors file: {fault}") from fault


def _check_index(directory: Path, found: Mapping[str, TensorHeader]) -> None:
    try:
        files = dict(json.loads((directory / INDEX_FILE).read_bytes())["weight_map"])
    except (ValueError, KeyError, TypeError) as fault:
        raise UnsupportedModel(f"{directory}: {INDEX_FILE} holds no weight_map: {fault}") from fault
    for name, file in sorted(files.items()):
        if name not in found:
            missing = "it" if (directory / str(file)).is_file() else "that file"
            raise UnsupportedModel(f"{directory}: {INDEX_FILE} promises {name!r} in {file}, and {missing} is missing")
        if found[name].file.name != file:
            raise UnsupportedModel(
                f"{directory}: {INDEX_FILE} promises {name!r} in {file}, it is in {found[name].file.name}"
            )
    if stray := found.keys() - files.keys():
        name = min(stray)
        raise UnsupportedModel(f"{directory}: {found[name].file.name} has {name!r}, which {INDEX_FILE} does not name")
