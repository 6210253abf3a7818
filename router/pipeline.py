"""The router: stages from cheap to thorough, and the first that is sure answers.

Owns the order of the stages. Knows no tensors, no HTTP and no files. Called by the server for every request
that leaves the choice of experts to it, from any thread: it has no state that changes.
"""

from collections.abc import Iterable

from adapters_store.manifest import Manifest
from router.decision import RouteDecision, RouteQuery
from router.keywords import KeywordStage


class Router:
    def __init__(self, manifests: Iterable[Manifest]) -> None:
        self._keywords = KeywordStage(manifests)

    def route(self, query: RouteQuery) -> RouteDecision:
        """Stage `none` with no experts means the base model; the reason says why nobody was sure."""
        return self._keywords.route(query)
