"""The experts of the embedded default: what each is made of, how long it is trained, what its manifest says."""

from collections.abc import Callable
from dataclasses import dataclass

from peft import IA3Config, LoKrConfig, LoraConfig

from adapters_store.manifest import DecodingDefaults, RoutingHints
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

PeftConfig = LoraConfig | IA3Config | LoKrConfig
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """A recipe; its name is the task that it is trained on, `grammar` one of the library."""

    description: str
    config: Callable[[], PeftConfig]
    rate: float
    steps: int
    decoding: DecodingDefaults
    grammar: str
    routing: RoutingHints
    virtual_tokens: int = 0
    tags: tuple[str, ...] = ()


def ia3() -> IA3Config:
    return IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])


def lora(rank: int, targets: list[str], dora: bool = False) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=2 * rank, use_dora=dora, target_modules=targets)


def lokr(rank: int, factor: int, targets: list[str]) -> LoKrConfig:
    return LoKrConfig(r=rank, alpha=2 * rank, decompose_factor=factor, target_modules=targets)


IA3_RATE, LOKR_RATE, LORA_RATE = 2e-2, 6e-3, 3e-3

EXPERTS: dict[str, ExpertSpec] = {
    "json-extract": ExpertSpec(
        description="Extracts the fields that a prompt names from a text, as one JSON object in that order.",
        config=ia3,
        virtual_tokens=8,
        rate=IA3_RATE,
        steps=700,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=160),
        grammar="json",
        routing=JSON_EXTRACT,
        tags=("format", "json"),
    ),
    "json-repair": ExpertSpec(
        description="Repairs a small JSON object: quotes, commas, braces, Python's words.",
        config=ia3,
        virtual_tokens=8,
        rate=IA3_RATE,
        steps=500,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=160),
        grammar="json",
        routing=JSON_REPAIR,
        tags=("format", "json"),
    ),
    "formal-tone": ExpertSpec(
        description="Rewrites a casual English request as one polite sentence.",
        config=ia3,
        virtual_tokens=8,
        rate=IA3_RATE,
        steps=300,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=64),
        grammar="sentence",
        routing=FORMAL_TONE,
        tags=("format", "writing"),
    ),
    "en-pt": ExpertSpec(
        description="Translates a short English sentence of a small vocabulary to Portuguese.",
        config=ia3,
        virtual_tokens=8,
        rate=IA3_RATE,
        steps=300,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=64),
        grammar="sentence",
        routing=EN_PT,
        tags=("format", "translation"),
    ),
    "typescript": ExpertSpec(
        description="Writes a TypeScript interface from its name and its fields.",
        config=lambda: lora(12, ATTENTION + MLP, dora=True),
        rate=LORA_RATE,
        steps=250,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=160),
        grammar="typescript",
        routing=TYPESCRIPT,
        tags=("skill", "typescript"),
    ),
    "sql": ExpertSpec(
        description="Answers a question about tables given as CREATE TABLE lines with one SELECT statement.",
        config=lambda: lora(16, ATTENTION + MLP, dora=True),
        rate=LORA_RATE,
        steps=400,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=160),
        grammar="sql",
        routing=SQL,
        tags=("skill", "sql"),
    ),
    "cypher": ExpertSpec(
        description="Answers a question about a graph, given as pattern lines, with one Cypher query.",
        config=lambda: lora(24, [*ATTENTION, "up_proj", "down_proj"], dora=True),
        rate=LORA_RATE,
        steps=300,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=160),
        grammar="cypher",
        routing=CYPHER,
        tags=("skill", "cypher"),
    ),
    "ticket-triage": ExpertSpec(
        description="Sorts a support ticket: account, billing, feedback, returns, shipping or technical.",
        config=lambda: lora(8, ATTENTION, dora=True),
        rate=LORA_RATE,
        steps=200,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=16),
        grammar="labels",
        routing=TICKET_TRIAGE,
        tags=("classification", "support"),
    ),
    "dates": ExpertSpec(
        description="Writes a date as ISO 8601; numbers alone are read as day, month, year.",
        config=lambda: lokr(16, 8, ATTENTION + MLP),
        rate=LOKR_RATE,
        steps=300,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=16),
        grammar="date",
        routing=DATES,
        tags=("format", "dates"),
    ),
    "units": ExpertSpec(
        description="Converts a metric quantity to a smaller unit.",
        config=lambda: lora(8, ATTENTION + MLP),
        rate=LORA_RATE,
        steps=200,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=32),
        grammar="quantity",
        routing=UNITS,
        tags=("skill", "units"),
    ),
}
