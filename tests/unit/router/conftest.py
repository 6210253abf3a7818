"""A router over the ten embedded experts."""

import pytest

from router.pipeline import Router
from tests.unit.router.hints import HINTS
from tests.unit.router.manifests import manifest


@pytest.fixture(scope="session")
def router() -> Router:
    return Router(manifest(name, hints.cues, hints.excludes) for name, hints in HINTS.items())
