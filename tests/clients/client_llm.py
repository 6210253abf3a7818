"""`llm`: a model of its extra-openai-models.yaml."""

import os
from pathlib import Path

import pytest

llm = pytest.importorskip("llm")


def test_a_prompt_is_answered():
    listing = f"- model_id: hotseat\n  model_name: auto\n  api_base: {os.environ['HOTSEAT_URL']}/v1\n"
    Path(llm.user_dir(), "extra-openai-models.yaml").write_text(listing)
    model = llm.get_model("hotseat")
    text = model.prompt("What is 5 km in metres?", key="none", temperature=0, stream=False).text()
    assert text
    assert "".join(model.prompt("What is 5 km in metres?", key="none", temperature=0, stream=True)) == text
