"""What storage costs, said without an engine, is what it costs in one."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from adapters_store.fingerprint import base_fingerprint
from adapters_store.package import HostAdapter
from engine.errors import AdapterIncompatible
from engine.model.config import fused_kind
from engine.packing import packing_error
from engine.storage_report import storage_report
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.models import Reference, configs, save_base


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whose vocabulary the native kernels take, so that slots hold A and B as they do by default."""
    return save_base(tmp_path_factory.mktemp("wide"), 112)


def made_for(wide: Path, reference: Reference) -> HostAdapter:
    manifest = replace(reference.adapter.manifest, base=base_fingerprint(wide))
    return replace(reference.adapter, manifest=manifest)


@pytest.mark.parametrize("name", configs())
def test_the_report_says_what_an_engine_of_int8_would_store(
    make_engine: MakeEngine, wide: Path, references: dict[str, Reference], name: str
) -> None:
    adapter = made_for(wide, references[name])
    engine = make_engine(base=wide, quantization="int8")
    assert fused_kind(engine.config, engine.shape) == "native"
    lowered = engine._host._forms.lower(adapter)
    plain, *packed = storage_report(adapter, wide)
    assert (plain.storage, plain.num_bytes, plain.whole) == ("plain", lowered.num_bytes, 0.0)
    assert [found.storage for found in packed] == ["int8", "int4"]
    for found in packed:
        expected = packing_error(lowered, found.storage)
        assert found.num_bytes == expected.num_bytes
        assert found.whole == pytest.approx(expected.whole, rel=0.01)
        assert found.by_module == pytest.approx(expected.by_module, rel=0.02)
        assert bool(found.whole) == (not name.startswith("ia3"))


@pytest.mark.parametrize("name", ["lora", "lokr", "ia3"])
def test_all_but_dora_need_the_shape_of_the_base_alone(
    wide: Path, references: dict[str, Reference], tmp_path: Path, name: str
) -> None:
    shutil.copy(wide / "config.json", tmp_path)
    assert storage_report(references[name].adapter, tmp_path) == storage_report(references[name].adapter, wide)


def test_dora_for_another_base_is_not_measured_by_the_norms_of_this_one(
    wide: Path, references: dict[str, Reference]
) -> None:
    with pytest.raises(AdapterIncompatible, match="DoRA scales the weights of its base, sha256:0000"):
        storage_report(references["dora"].adapter, wide)
