"""Scaled rotary positions against transformers: the tables, and whole answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from engine.model.config import read_config
from engine.model.rope import Rotary
from engine.model.rope_config import parse_rope
from tests.unit.engine.conftest import MakeEngine
from tests.unit.engine.helpers import ask
from tests.unit.engine.models import greedy, load_reference

LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 3.0}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 4096}
SHAPES: list[dict[str, Any]] = [
    {"rope_type": "default", "rope_theta": 1e6},
    LINEAR,
    YARN,
    {**YARN, "attention_factor": 1.5, "beta_fast": 20.0, "beta_slow": 2.0},
    {**YARN, "truncate": False},
    {**YARN, "factor": 1.0},
]


@pytest.mark.parametrize("rope", SHAPES)
@pytest.mark.parametrize("head_dim", [16, 128])
def test_the_tables_are_those_of_transformers(rope: dict[str, Any], head_dim: int) -> None:
    raw: dict[str, Any] = {"max_position_embeddings": 4096, "rope_parameters": rope}
    config = Qwen3Config(head_dim=head_dim, **raw)
    positions = torch.tensor([0, 1, 7, 1000, 4095])
    cos, sin = Qwen3RotaryEmbedding(config)(torch.zeros(1), positions[None])
    found_cos, found_sin = Rotary(parse_rope(raw), head_dim, 4096, torch.device("cpu")).at(positions)
    assert torch.allclose(found_cos[:, 0], cos[0], atol=2e-4)
    assert torch.allclose(found_sin[:, 0], sin[0], atol=2e-4)


@pytest.mark.parametrize("rope", [LINEAR, {**YARN, "original_max_position_embeddings": 32}])
async def test_a_base_with_scaled_positions_answers_as_transformers_does(
    make_engine: MakeEngine, base: Path, tmp_path: Path, rope: dict[str, Any]
) -> None:
    shutil.copytree(base, tmp_path / "scaled")
    config = json.loads((base / "config.json").read_text()) | {"rope_parameters": rope}
    (tmp_path / "scaled" / "config.json").write_text(json.dumps(config))
    engine, model = make_engine(base=tmp_path / "scaled"), load_reference(tmp_path / "scaled")
    plain = make_engine()
    prompts = [[6 + (7 * i + 3 * k) % 90 for i in range(60)] for k in range(6)]
    answers = [(await ask(engine, ids)).ids for ids in prompts]
    assert answers == [greedy(model, ids, 12) for ids in prompts]
    assert answers != [(await ask(plain, ids)).ids for ids in prompts]


def test_yarn_reaches_beyond_the_bases_own_limit(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    for rope, expected in ((LINEAR, 128), ({**YARN, "original_max_position_embeddings": 100}, 400)):
        (tmp_path / "config.json").write_text(json.dumps(config | {"rope_parameters": rope}))
        assert read_config(tmp_path).max_positions == expected
