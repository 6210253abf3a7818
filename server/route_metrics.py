"""What the router decides, for Prometheus: how long, by which stage, how many experts, how sure.

Decisions and their share by stage are the counts of `hotseat_route_stage_seconds`. Registered by `metrics`.
"""

from math import log

from prometheus_client import CollectorRegistry, Counter, Histogram

from router.decision import RouteDecision

_SECONDS = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)


class RouteMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "hotseat_route_stage_seconds", "A decision, by the stage that made it.", ("stage",),
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._selected = Histogram(
            "hotseat_route_selected", "Experts chosen; 0 is the base.", buckets=(0, 1, 2, 3, 5, 10), registry=registry
        )
        self._confidence = Histogram(
            "hotseat_route_confidence", "Confidence of decisions.", buckets=_SHARES, registry=registry
        )
        self._entropy = Histogram(
            "hotseat_route_entropy_nats", "Entropy of the experts' scores.", buckets=(0, 0.1, 0.25, 0.5, 1, 1.5, 2, 3),
            registry=registry,
        )  # fmt: skip
        self._selections = Counter("hotseat_route_selections", "Choices by expert.", ("expert",), registry=registry)

    def count(self, decision: RouteDecision, seconds: float) -> None:
        self._seconds.labels(decision.stage).observe(seconds)
        self._selected.observe(len(decision.experts))
        self._confidence.observe(decision.confidence)
        self._entropy.observe(entropy_of(list(decision.scores.values())))
        for expert in decision.experts:
            self._selections.labels(expert.name).inc()


def entropy_of(scores: list[float]) -> float:
    """Of the scores made to sum to 1, in nats; 0 where all are 0."""
    total = sum(scores)
    shares = [score / total for score in scores if score > 0] if total > 0 else []
    return -sum(share * log(share) for share in shares)
