"""How good a router is on labelled prompts.

Owns the arithmetic of accuracy, confusion and calibration. A row is right when the best expert is one of those that it
may have, or when there is none and it needs none.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from router.decision import RouteDecision, RouteQuery, Stage
from router.fit import expected_calibration_error, wilson_lower

NONE = "none"


class Routes(Protocol):
    def route(self, query: RouteQuery) -> RouteDecision: ...


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    text: str
    experts: tuple[str, ...]
    """Each as right as the others; empty where the base should answer."""


@dataclass(frozen=True, slots=True)
class WrongRow:
    text: str
    expected: str
    chosen: str
    stage: Stage
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    total: int
    right: int
    lower: float
    """Of the accuracy's 95 % interval (Wilson)."""
    false_experts: float
    """Share of the rows which need no expert that got one."""
    calibration_error: float
    stages: Mapping[Stage, int]
    confusion: Mapping[str, Mapping[str, int]]
    """Expected -> chosen -> rows."""
    wrong: tuple[WrongRow, ...]

    @property
    def accuracy(self) -> float:
        return self.right / self.total if self.total else 0.0


def chosen_of(decision: RouteDecision) -> str:
    return decision.experts[0].name if decision.experts else NONE


def evaluate(router: Routes, rows: Iterable[LabelledPrompt], allowed: frozenset[str] | None = None) -> Evaluation:
    wrong: list[WrongRow] = []
    confusion: dict[str, Counter[str]] = {}
    stages: Counter[Stage] = Counter()
    confidences, rights, base, taken = [], [], 0, 0
    for row in rows:
        decision = router.route(RouteQuery(row.text, allowed=allowed))
        chosen, expected = chosen_of(decision), row.experts[0] if row.experts else NONE
        is_right = chosen in row.experts if row.experts else chosen == NONE
        stages[decision.stage] += 1
        confusion.setdefault(expected, Counter())[expected if is_right else chosen] += 1
        confidences.append(decision.confidence)
        rights.append(is_right)
        base += not row.experts
        taken += not row.experts and chosen != NONE
        if not is_right:
            wrong.append(WrongRow(row.text, expected, chosen, decision.stage, decision.confidence, decision.reason))
    return Evaluation(
        total=len(rights),
        right=sum(rights),
        lower=wilson_lower(sum(rights), len(rights)),
        false_experts=taken / base if base else 0.0,
        calibration_error=expected_calibration_error(np.array(confidences, np.float32), np.array(rights))
        if rights
        else 0.0,
        stages=dict(stages),
        confusion={label: dict(row) for label, row in confusion.items()},
        wrong=tuple(wrong),
    )
