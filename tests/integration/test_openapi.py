"""The interface as it is described: the committed file, and requests that are made from it, good and bad."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from server.description import description
from tests.fakes import FakeEngine, make_services, write_expert
from tests.live import live_server

FILE = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
POSTS = {
    "/",
    "/detokenize",
    "/generate",
    "/generate_stream",
    "/tokenize",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
}
SCHEMA = schemathesis.openapi.from_dict(json.loads(FILE.read_text()))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("rooms")
    for name in ("json", "sql"):
        write_expert(root / "experts", name, cues=(f"as {name}",))
    with live_server(make_services(root / "experts", FakeEngine())) as port:
        yield f"http://127.0.0.1:{port}"


def test_the_committed_description_is_what_the_server_says() -> None:
    assert FILE.read_text() == description(), "write it anew: make openapi"


def test_every_form_of_a_request_is_described() -> None:
    assert set(json.loads(FILE.read_text())["paths"]) >= POSTS


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("path", sorted(POSTS))
def test_no_body_that_the_description_leads_to_is_the_servers_fault(path: str, mode: GenerationMode, url: str) -> None:
    """Incidents: a bad schema or a wrong type that ended the engine or was a 500 (CVE-2025-48944, CVE-2025-48943)."""
    operation = SCHEMA[path]["POST"]

    @settings(max_examples=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def probe(case: Any) -> None:
        response = case.call(base_url=url)
        assert response.status_code < 500 or "was given" in response.text, response.text  # the body's own timeout
        if response.status_code >= 400:
            told = response.json()["error"]
            assert told if isinstance(told, str) else told["message"]

    probe()
