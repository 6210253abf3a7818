"""StepPlan: the only word between the scheduler and the runner. Plain integers, no tensors."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Upload:
    """An adapter to copy into a slot before the step."""

    slot: int
    generation: str
    sequence_id: int
    """On whose behalf: the copy runs on that request's stream and counts as its swap time."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence's part of a step."""

    sequence_id: int
    token_ids: tuple[int, ...]
    """Ids to feed. Virtual token i of slot s has the id `vocab_size + s * max_virtual_tokens + i`."""
    start: int
    """Position of the first of them; what lies before is in the KV cache."""
    block_table: tuple[int, ...]
    mixture: tuple[tuple[int, float], ...]
    """(slot, weight) of each expert; empty for the base."""
    samples: bool
    """Whether a token is drawn from the last position."""


@dataclass(frozen=True, slots=True)
class StepPlan:
    rows: tuple[Row, ...]
    uploads: tuple[Upload, ...]
