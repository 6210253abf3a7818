"""Routing hints of the embedded experts, as their manifests carry them: phrases of high precision and their vetoes."""

from training.routing_hints.languages import CYPHER, SQL, TYPESCRIPT
from training.routing_hints.objects import JSON_EXTRACT, JSON_REPAIR
from training.routing_hints.prose import EN_PT, FORMAL_TONE, TICKET_TRIAGE
from training.routing_hints.quantities import DATES, UNITS

__all__ = [
    "CYPHER",
    "DATES",
    "EN_PT",
    "FORMAL_TONE",
    "JSON_EXTRACT",
    "JSON_REPAIR",
    "SQL",
    "TICKET_TRIAGE",
    "TYPESCRIPT",
    "UNITS",
]
