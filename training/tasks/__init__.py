"""The ten domains of the embedded default: seeded generators of prompts with their one right answer."""

from training.tasks import (
    cypher,
    dates,
    json_extract,
    json_repair,
    sql,
    tone,
    translate,
    triage,
    typescript,
    units,
)
from training.tasks.example import Draw, Example

TASKS: dict[str, Draw] = {
    "json-extract": json_extract.draw,
    "json-repair": json_repair.draw,
    "formal-tone": tone.draw,
    "en-pt": translate.draw,
    "typescript": typescript.draw,
    "sql": sql.draw,
    "cypher": cypher.draw,
    "ticket-triage": triage.draw,
    "dates": dates.draw,
    "units": units.draw,
}

__all__ = ["TASKS", "Draw", "Example"]
