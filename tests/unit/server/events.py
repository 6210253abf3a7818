"""Reads the body of a stream of server-sent events."""

import json
from typing import Any


def events(text: str) -> list[Any]:
    """The data of each event; the closing mark stays a string, comments are passed over."""
    blocks = [block for block in text.removesuffix("\n\n").split("\n\n") if not block.startswith(":")]
    assert all(block.startswith("data: ") for block in blocks), blocks
    data = [block.removeprefix("data: ") for block in blocks]
    return [item if item == "[DONE]" else json.loads(item) for item in data]
