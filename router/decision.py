"""The words of routing: a question, and an answer that explains itself.

Owns the types that cross the router's door. Knows no stage. The server asks and reports, every stage answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from router.errors import RouteQueryInvalid

MAX_EXPERTS = 10

Stage = Literal["explicit", "keywords", "embeddings", "policy", "none"]


@dataclass(frozen=True, slots=True)
class RouteQuery:
    text: str
    max_experts: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.max_experts <= MAX_EXPERTS:
            raise RouteQueryInvalid(self.max_experts, MAX_EXPERTS)


@dataclass(frozen=True, slots=True)
class ExpertScore:
    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class RouteDecision:
    """No experts and stage `none` mean the base model, which is an answer like any other."""

    experts: tuple[ExpertScore, ...]  # best first, never more than the query allows
    stage: Stage  # the one that was sure
    reason: str  # for people
    confidence: float  # 0 to 1; 0 if no stage was sure
    scores: Mapping[str, float]  # of all experts, chosen or not
