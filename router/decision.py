"""The words of routing: a question, and an answer that explains itself.

Owns the types that cross the router's door. Knows no stage. The server asks and reports, every stage answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from router.complexity import Complexity
from router.errors import RouteQueryInvalid

MAX_EXPERTS = 10

Stage = Literal["explicit", "keywords", "embeddings", "policy", "none"]


@dataclass(frozen=True, slots=True)
class RouteQuery:
    text: str
    max_experts: int = 1
    allowed: frozenset[str] | None = None
    """The experts that this caller may have; None is all. Nothing in the text widens it."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_experts <= MAX_EXPERTS:
            raise RouteQueryInvalid(self.max_experts, MAX_EXPERTS)

    def allows(self, name: str) -> bool:
        return self.allowed is None or name in self.allowed


@dataclass(frozen=True, slots=True)
class ExpertScore:
    name: str
    weight: float  # in eighths where the router chose
    score: float = 1.0  # 0 to 1, as the stage that decided gave it


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """No experts mean the base model, which is an answer like any other; stage `none`, that no stage was sure."""

    experts: tuple[ExpertScore, ...]  # best first, never more than the query allows
    stage: Stage  # the one that was sure
    reason: str  # for people
    confidence: float  # 0 to 1: how often decisions like this one were right when it was calibrated
    scores: Mapping[str, float]  # of the experts that were looked at, chosen or not
    complexity: Complexity | None = None  # where the last stage ran
    router_version: str = "untrained"

    @property
    def abstained(self) -> bool:
        return not self.experts


def in_eighths(weight: float) -> float:
    """The nearest eighth; a chosen expert never vanishes."""
    return max(round(weight * 8), 1) / 8
