"""OpenAI's client for Node, where Node and the package are installed."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "node"


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node")
@pytest.mark.skipif(not (HERE / "node_modules" / "openai").is_dir(), reason="needs `npm install` in tests/clients/node")
def test_the_checks_of_the_node_client_pass():
    run = subprocess.run(["node", "--test", "client_openai.mjs"], cwd=HERE, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout
