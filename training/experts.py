"""The experts of the embedded default: what each is made of, how long it is trained, what its manifest says."""

from collections.abc import Callable
from dataclasses import dataclass

from peft import IA3Config, LoraConfig

from adapters_store.manifest import DecodingDefaults, GrammarRef, RoutingHints
from training.routing_hints import JSON_EXTRACT, SQL, TICKET_TRIAGE

PeftConfig = LoraConfig | IA3Config
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class ExpertSpec:
    """A recipe; its name is the task that it is trained on."""

    description: str
    config: Callable[[], PeftConfig]
    rate: float
    steps: int
    decoding: DecodingDefaults
    grammar: GrammarRef
    routing: RoutingHints
    virtual_tokens: int = 0
    tags: tuple[str, ...] = ()


EXPERTS: dict[str, ExpertSpec] = {
    "json-extract": ExpertSpec(
        description="Extracts the fields that a prompt names from a sentence, as one JSON object in that order.",
        config=lambda: IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
        rate=2e-2,
        steps=500,
        virtual_tokens=8,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=160),
        grammar=GrammarRef(library="json"),
        routing=JSON_EXTRACT,
        tags=("format", "json"),
    ),
    "sql": ExpertSpec(
        description="Answers a question about tables given as CREATE TABLE lines with one SELECT statement.",
        config=lambda: LoraConfig(r=16, lora_alpha=32, use_dora=True, target_modules=ATTENTION + MLP),
        rate=3e-3,
        steps=400,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=160),
        grammar=GrammarRef(library="sql"),
        routing=SQL,
        tags=("skill", "sql"),
    ),
    "ticket-triage": ExpertSpec(
        description="Sorts a support ticket: account, billing, feedback, returns, shipping or technical.",
        config=lambda: LoraConfig(r=8, lora_alpha=16, target_modules=ATTENTION),
        rate=3e-3,
        steps=200,
        decoding=DecodingDefaults(temperature=0.0, max_tokens=16),
        grammar=GrammarRef(library="labels"),
        routing=TICKET_TRIAGE,
        tags=("classification", "support"),
    ),
}
