"""The router: stages from cheap to thorough, and the first that is sure answers.

Owns the order of the stages. Knows no HTTP. Called by the server for every request that leaves the choice of experts
to it, from any thread: it has no state that changes.
"""

from collections.abc import Iterable

from adapters_store.manifest import Manifest
from router.complexity import Tiers
from router.cues import normalize
from router.decision import ExpertScore, RouteDecision, RouteQuery, in_eighths
from router.encoder import Encoder
from router.keywords import KeywordStage, called_by_name
from router.learned import LearnedStages, measure_new
from router.model import RouterModel
from router.syntax import Parser


class Router:
    """Without a model there are cues alone, as their manifests have them."""

    def __init__(
        self,
        manifests: Iterable[Manifest],
        model: RouterModel | None = None,
        encoder: Encoder | None = None,
        parser: Parser | None = None,
        tiers: Tiers | None = None,
    ) -> None:
        """Raises ModelInvalid where the model was fitted on another encoder than this."""
        known = sorted(manifests, key=lambda manifest: manifest.name)
        self.names = tuple(manifest.name for manifest in known)
        self.version = model.version if model is not None else "untrained"
        self._learned: LearnedStages | None = None
        measured = None
        if model is not None and encoder is not None:
            self._learned = LearnedStages(known, model, encoder, parser, tiers or Tiers())
            measured = measure_new(known, model)
        self.keywords = KeywordStage(known, measured)

    def route(self, query: RouteQuery) -> RouteDecision:
        """No experts means the base model; the reason says why."""
        if called := [name for name in called_by_name(query.text, self.names) if query.allows(name)]:
            return self._as_called(called[: query.max_experts])
        findings = self.keywords.examine(normalize(query.text))
        first = self.keywords.decide(query, findings, self.version)
        # More than one expert is the last stage's to find.
        if self._learned is None or (first.experts and query.max_experts == 1):
            return first
        if not any(char.isalnum() for char in query.text[:1000]):
            return first
        return self._learned.decide(query, findings, first)

    def _as_called(self, names: list[str]) -> RouteDecision:
        weight = in_eighths(1 / len(names))
        return RouteDecision(
            experts=tuple(ExpertScore(name, weight) for name in names),
            stage="explicit",
            reason="the prompt begins with " + " ".join(f"@{name}" for name in names),
            confidence=1.0,
            scores=dict.fromkeys(names, 1.0),
            router_version=self.version,
        )
