"""The routing hints that the embedded experts' manifests carry."""

from training.routing_hints import (
    CYPHER,
    DATES,
    EN_PT,
    FORMAL_TONE,
    JSON_EXTRACT,
    JSON_REPAIR,
    SQL,
    TICKET_TRIAGE,
    TYPESCRIPT,
    UNITS,
)

HINTS = {
    "json-extract": JSON_EXTRACT,
    "json-repair": JSON_REPAIR,
    "formal-tone": FORMAL_TONE,
    "en-pt": EN_PT,
    "typescript": TYPESCRIPT,
    "sql": SQL,
    "cypher": CYPHER,
    "ticket-triage": TICKET_TRIAGE,
    "dates": DATES,
    "units": UNITS,
}
