"""The files under deploy/ agree with the server and with each other."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.request import FinishReason
from router.decision import ExpertScore, RouteDecision
from server.metrics import Metrics
from server.schemas import ExpertUsed, Reply, Routing, Timings, Usage
from tests.fakes import FakeEngine, make_services, write_expert

ROOT = Path(__file__).resolve().parents[3]
BOARD = ROOT / "deploy" / "grafana" / "dashboards" / "hotseat.json"


def expressions() -> list[str]:
    board = json.loads(BOARD.read_text())
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def exported(tmp_path: Path) -> set[str]:
    """Every sample name of a server that has answered once."""
    write_expert(tmp_path / "experts", "sql")
    services = make_services(tmp_path / "experts", FakeEngine())
    metrics = Metrics(lambda: services)
    metrics.count_request("/generate", 200, 0.1)
    metrics.count_route(RouteDecision((ExpertScore("sql", 1.0),), "policy", "", 0.9, {"sql": 0.9}), 0.001)
    metrics.count_answer(
        Reply(
            id="gen-1",
            text="",
            finish_reason=FinishReason.STOP,
            experts=[ExpertUsed(name="sql", version="1.0.0", kind="lora", weight=1.0)],
            routing=Routing(stage="keywords", reason="", confidence=1.0, scores={}),
            usage=Usage(prompt_tokens=1, cached_tokens=0, completion_tokens=1, total_tokens=2),
            timings=Timings(queue_ms=1, route_ms=1, swap_ms=1, first_token_ms=1, total_ms=1),
        )
    )
    lines = metrics.render().decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def test_every_metric_on_the_board_is_exported(tmp_path: Path) -> None:
    used = {name for expression in expressions() for name in re.findall(r"hotseat_\w+", expression)}
    assert used
    assert used <= exported(tmp_path)


@pytest.mark.parametrize(
    "metric",
    [
        "hotseat_swap_seconds_bucket",
        "hotseat_swap_stage_seconds_bucket",
        "hotseat_tier_hits_total",
        "hotseat_tier_misses_total",
        "hotseat_tier_evictions_total",
        "hotseat_tier_residents",
        "hotseat_tier_bytes",
        "hotseat_memory_bytes",
        "hotseat_generated_tokens_total",
        "hotseat_running_requests",
        "hotseat_queued_requests",
        "hotseat_requests_total",
        "hotseat_route_decisions_total",
    ],
)
def test_the_board_shows_what_an_operator_asks_first(metric: str) -> None:
    assert any(metric in expression for expression in expressions())


def test_swap_latency_is_shown_at_three_quantiles() -> None:
    swaps = [expression for expression in expressions() if "hotseat_swap_seconds" in expression]
    assert all(any(f"histogram_quantile({p}," in expression for expression in swaps) for p in (0.5, 0.95, 0.99))


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / "deploy" / path).read_text())


def test_prometheus_scrapes_the_server_of_the_compose_file() -> None:
    services = read_yaml("compose.yaml")["services"]
    (job,) = read_yaml("prometheus.yml")["scrape_configs"]
    host, port = job["static_configs"][0]["targets"][0].split(":")
    assert host in services
    assert services[host]["ports"][0].endswith(f":{port}")


def test_grafana_finds_its_datasource_and_its_board() -> None:
    services = read_yaml("compose.yaml")["services"]
    (source,) = read_yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    assert source["url"].removeprefix("http://").split(":")[0] in services
    assert all(panel["datasource"]["uid"] == source["uid"] for panel in json.loads(BOARD.read_text())["panels"])
    (provider,) = read_yaml("grafana/provisioning/dashboards/hotseat.yaml")["providers"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]


def test_every_port_is_published_on_loopback_only() -> None:
    services = read_yaml("compose.yaml")["services"]
    ports = [port for service in services.values() for port in service["ports"]]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_does_not_run_as_root_and_says_when_it_is_ready() -> None:
    final_stage = (ROOT / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert "\nUSER hotseat" in final_stage
    assert "HEALTHCHECK" in final_stage
    assert "/ready" in final_stage
