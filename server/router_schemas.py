"""The wire of `POST /route` and `POST /route/evaluate`. Checked like every other body: strict, closed, bounded."""

from typing import Annotated

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from router.decision import RouteDecision
from router.evaluate import Evaluation
from server.message_fields import Message
from server.wire import ExpertName, Wire

MAX_ROWS = 2000


class RouteRequest(Wire):
    prompt: str | None = Field(default=None, description="One user message; an empty one is the base's.")
    messages: list[Message] | None = Field(default=None, min_length=1, max_length=256)
    max_experts: int = Field(default=1, ge=1, le=10)
    allowed: list[ExpertName] | None = Field(
        default=None, max_length=4096, description="The experts that may be chosen; null is all."
    )

    @model_validator(mode="after")
    def _one_kind_of_text(self) -> "RouteRequest":
        if (self.prompt is None) == (self.messages is None):
            raise PydanticCustomError("prompt_or_messages", "send either prompt or messages, not both and not none")
        return self

    @property
    def text(self) -> str:
        if self.messages is None:
            return self.prompt or ""
        return "\n".join(message.text for message in self.messages if message.role == "user")


class SelectedExpert(Wire):
    expert: str
    weight: float
    score: float
    stage: str


class ComplexityReport(Wire):
    score: float
    tier: str
    features: dict[str, float]
    absent: list[str] = Field(description="What nothing here can measure: these need a parser.")


class RouteReply(Wire):
    selected: list[SelectedExpert]
    abstained: bool
    stage: str
    reason: str
    confidence: float
    scores: dict[str, float]
    complexity: ComplexityReport | None = Field(description="null where no stage needed it.")
    latency_ms: float
    router_version: str


class EvaluationRow(Wire):
    text: str
    expert: ExpertName | None
    also: Annotated[list[ExpertName], Field(max_length=10)] = Field(default_factory=list)


class EvaluateRequest(Wire):
    rows: list[EvaluationRow] = Field(min_length=1, max_length=MAX_ROWS)
    allowed: list[ExpertName] | None = Field(default=None, max_length=4096)


class WrongRowReport(Wire):
    text: str
    expected: str
    chosen: str
    stage: str
    confidence: float
    reason: str


class EvaluateReply(Wire):
    rows: int
    accuracy: float
    accuracy_lower_bound: float
    false_expert_share: float
    calibration_error: float
    stages: dict[str, int]
    confusion: dict[str, dict[str, int]]
    wrong: list[WrongRowReport]
    router_version: str


def reply_of_route(decision: RouteDecision, seconds: float) -> RouteReply:
    found = decision.complexity
    return RouteReply(
        selected=[
            SelectedExpert(expert=expert.name, weight=expert.weight, score=expert.score, stage=decision.stage)
            for expert in decision.experts
        ],
        abstained=decision.abstained,
        stage=decision.stage,
        reason=decision.reason,
        confidence=decision.confidence,
        scores=dict(decision.scores),
        complexity=None
        if found is None
        else ComplexityReport(
            score=found.score, tier=found.tier, features=dict(found.features), absent=list(found.absent)
        ),
        latency_ms=round(seconds * 1e3, 4),
        router_version=decision.router_version,
    )


def reply_of_evaluation(found: Evaluation, version: str) -> EvaluateReply:
    return EvaluateReply(
        rows=found.total,
        accuracy=found.accuracy,
        accuracy_lower_bound=found.lower,
        false_expert_share=found.false_experts,
        calibration_error=found.calibration_error,
        stages={str(stage): count for stage, count in found.stages.items()},
        confusion={label: dict(row) for label, row in found.confusion.items()},
        wrong=[
            WrongRowReport(
                text=row.text,
                expected=row.expected,
                chosen=row.chosen,
                stage=row.stage,
                confidence=row.confidence,
                reason=row.reason,
            )
            for row in found.wrong
        ],
        router_version=version,
    )
