"""What a scrape shows."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.request import FinishReason
from server.metrics import Metrics
from server.schemas import ExpertUsed, Reply, Routing, Timings, Usage
from server.services import Services
from tests.fakes import FakeEngine


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def reply(swap_ms: float = 0.0, experts: tuple[str, ...] = ()) -> Reply:
    return Reply(
        id="gen-1",
        text="",
        finish_reason=FinishReason.STOP,
        experts=[ExpertUsed(name=name, version="1.0.0", kind="lora", weight=1.0) for name in experts],
        routing=Routing(stage="keywords", reason="", confidence=1.0, scores={}),
        usage=Usage(prompt_tokens=1, cached_tokens=0, completion_tokens=1, total_tokens=2),
        timings=Timings(queue_ms=1, route_ms=1, swap_ms=swap_ms, first_token_ms=30, total_ms=50),
    )


def test_before_the_rooms_run_a_scrape_says_not_ready() -> None:
    found = samples(Metrics(lambda: None))
    assert found["hotseat_ready", ()] == 0
    assert ("hotseat_running_requests", ()) not in found


def test_the_rooms_numbers_are_read_at_the_scrape(services: Services, engine: FakeEngine) -> None:
    metrics = Metrics(lambda: services)
    engine.num_queued = 3
    found = samples(metrics)
    assert found["hotseat_ready", ()] == 1
    assert found["hotseat_queued_requests", ()] == 3
    assert found["hotseat_slots", ()] == 4
    assert found["hotseat_memory_bytes", (("kind", "kv"),)] == 300
    engine.num_queued = 0
    assert samples(metrics)["hotseat_queued_requests", ()] == 0


def test_a_dead_engine_is_not_ready(services: Services, engine: FakeEngine) -> None:
    engine.die()
    assert samples(Metrics(lambda: services))["hotseat_ready", ()] == 0


def test_requests_are_counted_by_route_and_status() -> None:
    metrics = Metrics(lambda: None)
    metrics.count_request("/generate", 200, 0.2)
    metrics.count_request("/generate", 429, 0.001)
    found = samples(metrics)
    assert found["hotseat_requests_total", (("route", "/generate"), ("status", "200"))] == 1
    assert found["hotseat_requests_total", (("route", "/generate"), ("status", "429"))] == 1
    assert found["hotseat_request_seconds_count", (("route", "/generate"),)] == 2


def test_swaps_are_shown_by_kind_and_source_and_their_stages_with_cumulated_buckets(services: Services) -> None:
    found = samples(Metrics(lambda: services))
    swap = (("kind", "lora"), ("source", "host"))
    assert found["hotseat_swap_seconds_count", swap] == 1
    assert found["hotseat_swap_seconds_sum", swap] == pytest.approx(0.002)
    assert found["hotseat_swap_seconds_bucket", (("kind", "lora"), ("le", "0.001"), ("source", "host"))] == 0
    assert found["hotseat_swap_seconds_bucket", (("kind", "lora"), ("le", "0.05"), ("source", "host"))] == 1
    assert found["hotseat_swap_seconds_bucket", (("kind", "lora"), ("le", "+Inf"), ("source", "host"))] == 1
    for stage in ("read", "verify", "lower", "copy"):
        assert found["hotseat_swap_stage_seconds_count", (("stage", stage),)] == 1


def test_every_tier_shows_its_hits_misses_evictions_and_bytes(services: Services) -> None:
    found = samples(Metrics(lambda: services))
    device = (("tier", "device"),)
    values = [found[f"hotseat_tier_{name}", device] for name in ("hits_total", "misses_total", "evictions_total")]
    assert values == [3, 2, 1]
    assert found["hotseat_tier_residents", device] == 2 and found["hotseat_tier_bytes", device] == 200
    for tier in ("host", "disk", "package"):
        assert found["hotseat_tier_hits_total", (("tier", tier),)] == 0
        assert found["hotseat_tier_bytes", (("tier", tier),)] == 0


def test_answers_are_counted_by_stage_end_and_expert() -> None:
    metrics = Metrics(lambda: None)
    metrics.count_answer(reply(experts=("sql", "json")))
    found = samples(metrics)
    assert found["hotseat_route_decisions_total", (("stage", "keywords"),)] == 1
    assert found["hotseat_answers_total", (("finish_reason", "stop"),)] == 1
    assert found["hotseat_expert_uses_total", (("expert", "sql"),)] == 1


def test_two_applications_in_one_process_do_not_share_their_counts() -> None:
    first, second = Metrics(lambda: None), Metrics(lambda: None)
    first.count_request("/health", 200, 0.1)
    assert not any(name == "hotseat_requests_total" for name, _ in samples(second))
