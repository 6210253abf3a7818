"""The routing hints that the embedded experts' manifests carry."""

from training.routing_hints import JSON_EXTRACT, SQL, TICKET_TRIAGE

HINTS = {"json-extract": JSON_EXTRACT, "sql": SQL, "ticket-triage": TICKET_TRIAGE}
