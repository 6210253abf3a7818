"""Prometheus' view: what requests did is counted here, what the rooms did they count themselves.

The rooms' plain numbers are read when a scrape asks, so nothing is counted twice and no room knows
Prometheus. Labels take values from closed sets only: routes, statuses, stages, kinds. One object per
application, no global registry.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from engine.stats import EngineStats
from engine.tier_stats import SWAP_BUCKETS, TierStats
from engine.tier_stats import Histogram as SwapHistogram
from router.decision import RouteDecision
from server.route_metrics import RouteMetrics
from server.schemas import Reply
from server.services import Services

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds; around 100 ms for the first token. Swaps have buckets of their own, in the engine.
_FIRST = (0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WHOLE = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_ROUTE = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class Metrics:
    """Counts requests and answers; `render` adds the rooms."""

    def __init__(self, rooms: Callable[[], Services | None]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(_Rooms(rooms))
        self._routes = RouteMetrics(self._registry)
        self._requests = Counter("hotseat_requests", "HTTP requests.", ("route", "status"), registry=self._registry)
        self._request_seconds = self._histogram("request_seconds", "From head to last byte.", _WHOLE, "route")
        self._unknown_fields = Counter(
            "hotseat_unknown_fields", "Fields of requests that were passed over.", ("route",), registry=self._registry
        )
        self._answers = Counter(
            "hotseat_answers", "Answers by how they ended.", ("finish_reason",), registry=self._registry
        )
        self._decisions = Counter(
            "hotseat_route_decisions", "Routing decisions by stage.", ("stage",), registry=self._registry
        )
        self._uses = Counter("hotseat_expert_uses", "Answers by expert.", ("expert",), registry=self._registry)
        self._route_seconds = self._histogram("route_seconds", "Choosing experts.", _ROUTE)
        self._queue_seconds = self._histogram("queue_seconds", "Waiting for a place in the batch.", _FIRST)
        self._first_token_seconds = self._histogram("first_token_seconds", "To the first token.", _FIRST)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def count_route(self, decision: RouteDecision, seconds: float) -> None:
        self._routes.count(decision, seconds)

    def count_answer(self, reply: Reply) -> None:
        times = reply.timings
        self._answers.labels(reply.finish_reason).inc()
        self._decisions.labels(reply.routing.stage).inc()
        for expert in reply.experts:
            self._uses.labels(expert.name).inc()
        self._route_seconds.observe(times.route_ms / 1e3)
        self._queue_seconds.observe(times.queue_ms / 1e3)
        self._first_token_seconds.observe(times.first_token_ms / 1e3)

    def count_unknown_fields(self, route: str, count: int) -> None:
        self._unknown_fields.labels(route).inc(count)

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"hotseat_{name}", help_text, labels, buckets=buckets, registry=self._registry)


class _Rooms(Collector):
    """The rooms' own numbers, empty until the rooms run."""

    def __init__(self, rooms: Callable[[], Services | None]) -> None:
        self._rooms = rooms

    def collect(self) -> Iterable[Metric]:
        services = self._rooms()
        yield _gauge("ready", "1 while the rooms run.", float(services is not None and services.engine.is_healthy))
        if services is not None:
            stats = services.engine.stats()
            yield from _engine_metrics(stats)
            yield from _swap_metrics(stats)
            yield from _store_metrics(services)
            yield from _tier_metrics({**stats.tiers, "package": _package_tier(services)})

    def describe(self) -> Iterable[Metric]:
        """Nothing ahead of time: registering must not ask the rooms."""
        return ()


def _engine_metrics(stats: EngineStats) -> Iterable[Metric]:
    yield _gauge("running_requests", "Requests in the batch.", stats.running)
    yield _gauge("queued_requests", "Requests that wait for the batch.", stats.queued)
    yield _counter("steps", "Steps of the engine.", stats.steps)
    yield _counter("prompt_tokens", "Prompt tokens read, virtual ones too.", stats.prompt_tokens)
    yield _counter("prefix_hits_tokens", "Tokens found in the prefix cache, not computed.", stats.prefix_hits_tokens)
    yield _counter("generated_tokens", "Tokens generated.", stats.generated_tokens)
    yield _counter("forced_tokens", "Tokens of these that nobody drew.", stats.forced_tokens)
    yield _counter("swaps", "Experts copied into a slot.", stats.swaps)
    yield _gauge("slots_used", "Slots that hold an expert.", stats.slots_used)
    yield _gauge("slots", "Slots there are.", stats.num_slots)
    yield _gauge("kv_blocks_used", "KV blocks in use.", stats.kv_blocks_used)
    yield _gauge("kv_blocks", "KV blocks there are.", stats.kv_blocks_total)
    yield _labelled("memory_bytes", "Memory that the engine holds.", "kind", stats.memory_bytes)


def _store_metrics(services: Services) -> Iterable[Metric]:
    stats = services.store.stats()
    yield _counter("store_hits", "Fetches that found the expert in host memory.", stats.hits)
    yield _counter("store_misses", "Fetches that had to load it.", stats.misses)
    yield _counter("store_evictions", "Experts dropped from host memory.", stats.evictions)
    yield _counter("store_load_seconds", "Time spent loading.", stats.load_seconds)
    yield _gauge("store_resident_bytes", "Experts in host memory.", stats.resident_bytes)


def _swap_metrics(stats: EngineStats) -> Iterable[Metric]:
    swaps = HistogramMetricFamily(
        "hotseat_swap_seconds",
        "Hot swaps, from the fetching of the expert to the end of the copy into its slot.",
        labels=("kind", "source"),
    )
    for (kind, source), found in stats.swap_seconds.items():
        swaps.add_metric((kind, source), _cumulated(found), found.seconds)
    yield swaps
    stages = HistogramMetricFamily("hotseat_swap_stage_seconds", "Parts of hot swaps.", labels=("stage",))
    for stage, found in stats.stage_seconds.items():
        stages.add_metric((stage,), _cumulated(found), found.seconds)
    yield stages


def _tier_metrics(tiers: Mapping[str, TierStats]) -> Iterable[Metric]:
    """Of the tiers that an expert passes: package, disk (lowered), host (lowered), device."""
    for name, help_text, values in (
        ("hits", "Experts found in the tier.", {tier: stats.hits for tier, stats in tiers.items()}),
        ("misses", "Experts that were not there.", {tier: stats.misses for tier, stats in tiers.items()}),
        ("evictions", "Experts that made room.", {tier: stats.evictions for tier, stats in tiers.items()}),
    ):
        family = CounterMetricFamily(f"hotseat_tier_{name}", help_text, labels=("tier",))
        for tier, value in values.items():
            family.add_metric((tier,), value)
        yield family
    residents = {tier: stats.residents for tier, stats in tiers.items() if tier != "package"}
    yield _labelled("tier_residents", "Experts in the tier.", "tier", residents)
    yield _labelled("tier_bytes", "Their bytes.", "tier", {tier: stats.num_bytes for tier, stats in tiers.items()})


def _package_tier(services: Services) -> TierStats:
    """Packages in host memory; large ones without their weights."""
    stats = services.store.stats()
    return TierStats(stats.hits, stats.misses, stats.evictions, 0, stats.resident_bytes)


def _cumulated(histogram: SwapHistogram) -> list[tuple[str, float]]:
    """As Prometheus has it: what is up to each bound, and all of it."""
    bounds = [*map(floatToGoString, SWAP_BUCKETS), "+Inf"]
    return list(zip(bounds, map(float, accumulate(histogram.counts)), strict=True))


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hotseat_{name}", help_text, value=value)


def _counter(name: str, help_text: str, value: float) -> Metric:
    return CounterMetricFamily(f"hotseat_{name}", help_text, value=value)


def _labelled(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"hotseat_{name}", help_text, labels=(label,))
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
