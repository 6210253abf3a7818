"""A base of random weights, small enough to make for every run, with its experts and its GGUF files."""

import shlex
import sys
from pathlib import Path

import pytest
import torch

from bench.make_base import BaseShape, make_base, make_gguf
from bench.make_experts import make_experts

ROOT = Path(__file__).resolve().parents[3]
SHAPE = BaseShape(
    vocab_size=2304, hidden=64, intermediate=96, layers=2, heads=4, kv_heads=2, head_dim=32, positions=512
)


@pytest.fixture(scope="session")
def random_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp("random") / "base"
    make_base(directory, SHAPE, 0, ROOT / "models" / "nano")
    make_experts(directory, 0)
    make_gguf(directory)
    return directory


@pytest.fixture
def fake_llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program; what its server is asked lies beside it in `log`."""
    program = tmp_path / "fake-llama"
    script = Path(__file__).with_name("fake_llama.py")
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(script)])} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("FAKE_LLAMA_LOG", str(tmp_path / "log"))
    return program
