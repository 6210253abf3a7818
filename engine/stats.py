"""Counters and gauges as plain numbers; whoever exports them turns them into metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.tier_stats import Histogram, Holding, Source, Stage, TierStats


@dataclass(slots=True)
class EngineStats:
    """A snapshot. Counters only grow; gauges describe the moment of the snapshot."""

    steps: int = 0
    prompt_tokens: int = 0
    """Positions of prompts that were computed; what the prefix cache held is not among them."""
    prefix_hits_tokens: int = 0
    """Positions whose keys and values were found in the prefix cache instead of computed, also after a preemption."""
    generated_tokens: int = 0
    """Forced ones too."""
    forced_tokens: int = 0
    """Of these, the ones that nobody drew: a grammar left no choice, or the engine closed a model's thinking."""
    preemptions: int = 0
    swaps: int = 0
    running: int = 0
    queued: int = 0
    num_slots: int = 0
    slots_used: int = 0
    resident: tuple[str, ...] = ()
    """Names of the experts that sit in slots."""
    kv_blocks_used: int = 0
    kv_blocks_total: int = 0
    memory_bytes: dict[str, int] = field(default_factory=dict)
    """By kind: base, slots, kv."""
    tiers: Mapping[str, TierStats] = field(default_factory=dict)
    """By name: device, host, and disk where lowered adapters are kept there."""
    holdings: Mapping[str, tuple[Holding, ...]] = field(default_factory=dict)
    """What is in them, of device and host."""
    swap_seconds: Mapping[tuple[str, Source], Histogram] = field(default_factory=dict)
    """By adapter kind and where the swap found it; from the fetching of the package to the end of the copy."""
    stage_seconds: Mapping[Stage, Histogram] = field(default_factory=dict)
