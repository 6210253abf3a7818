"""`hotseat plan`: what a base, its slots, its KV cache and its experts take on a device, before anything is loaded.

Reads config.json and the manifests of the experts; imports no torch, so that it answers at once.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from adapters_store.errors import StoreError
from adapters_store.files import read_file
from adapters_store.index import package_directories
from adapters_store.manifest import CONFIG_FILE, parse_manifest
from engine.budget import Budget, adapter_itemsize, budget_of, fitted, slots_that_fit
from engine.config import CPU_ONLY, EngineConfig
from engine.errors import EngineError
from engine.expert_size import ExpertShape, num_values, shape_of
from engine.model.config import ModelConfig, read_config
from server.base import CONFIG_FILES, resolve_base
from server.engine_config import planned_config
from server.settings import Settings, SettingsInvalid, settings_with
from server.sizes import format_size, parse_size

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
KINDS = (
    ExpertShape("ia3", ("k_proj", "v_proj", "down_proj"), feedforward=("down_proj",), virtual_tokens=8),
    ExpertShape("lokr", ALL, 16, factor=8),
    ExpertShape("dora", ATTENTION, 8),
    ExpertShape("lora", ALL, 8),
    ExpertShape("dora", ALL, 12),
    ExpertShape("lora", ALL, 16),
    ExpertShape("dora", ALL, 16),
    ExpertShape("dora", (*ATTENTION, "up_proj", "down_proj"), 24),
)
"""The usual recipes, from small to large."""
CARDS = {"24 GB": 24 * 10**9, "16 GB": 16 * 10**9}
_MAX_JSON_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ExpertLine:
    name: str
    adapter: str
    values: int
    value_bytes: int
    """As served: fp32 around int8 and int4 weights, else 16 bits."""


@dataclass(frozen=True, slots=True)
class KindLine:
    adapter: str
    targets: tuple[str, ...]
    values: int
    value_bytes: int
    would_fit: Mapping[str, int]
    """Card -> slots, if a slot were as large as what is in it."""


@dataclass(frozen=True, slots=True)
class Report:
    base: str
    quantization: str
    budget: Budget
    max_step_tokens: int
    max_batch: int
    max_rank: int
    host_bytes: int
    """Packages in host memory, at most."""
    fit: Mapping[str, int]
    """Card -> slots as they are."""
    experts: tuple[ExpertLine, ...]
    faults: Mapping[str, str]
    """Expert on disk -> why it has no line."""
    kinds: tuple[KindLine, ...]


def plan(
    base: Annotated[Path | None, typer.Option(help="Directory of the base model, or its name on the hub.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a base from the hub.")] = None,
    vram: Annotated[str, typer.Option(help="Device memory: 24GiB, 16GB, 512MiB or bytes.")] = "24GiB",
    experts: Annotated[int | None, typer.Option(help="Experts resident at one time.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="nf4 (default), bf16, fp32, or int8 and int4 on a CPU.")
    ] = None,
    kv_dtype: Annotated[str | None, typer.Option(help="auto or int8.")] = None,
    context: Annotated[int | None, typer.Option(help="Positions of one request.")] = None,
    experts_dir: Annotated[Path | None, typer.Option(help="Directory of the experts.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures for programs.")] = False,
) -> None:
    """Say what fits on a device, without loading anything."""
    try:
        settings = settings_with(
            base=base,
            revision=revision,
            slots=experts,
            quantization=quantization,
            kv_dtype=kv_dtype,
            max_context=context,
            experts=experts_dir,
            memory=_memory(vram),
        )
        found = report(settings, must_list_experts=experts_dir is not None)
    except (SettingsInvalid, EngineError) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from None
    sys.stdout.write(json.dumps(as_data(found), indent=2) + "\n" if as_json else "\n".join(lines(found)) + "\n")


def report(settings: Settings, must_list_experts: bool = False) -> Report:
    """Raises SettingsInvalid, UnsupportedModel or BudgetTooSmall."""
    directory = resolve_base(settings.base, settings.revision, CONFIG_FILES)
    model = read_config(directory)
    if must_list_experts and not settings.experts.is_dir():
        raise SettingsInvalid(f"there is no directory of experts at {settings.experts}")
    config = fitted(planned_config(settings, directory), model)
    experts, faults = _experts_on_disk(settings.experts, config, model)
    return Report(
        base=settings.base.name,
        quantization=config.quantization,
        budget=budget_of(config, model),
        max_step_tokens=config.max_step_tokens,
        max_batch=config.max_batch,
        max_rank=config.max_rank,
        host_bytes=settings.host_memory_bytes,
        fit={card: slots_that_fit(config, model, memory) for card, memory in CARDS.items()},
        experts=experts,
        faults=faults,
        kinds=tuple(_kind_line(kind, config, model) for kind in KINDS),
    )


def _memory(vram: str) -> int:
    try:
        size = parse_size(vram)
    except ValueError as fault:
        raise SettingsInvalid(f"--vram: {fault}") from fault
    if not size:
        raise SettingsInvalid("--vram is 0, and nothing fits in that")
    return size


def _experts_on_disk(
    root: Path, config: EngineConfig, model: ModelConfig
) -> tuple[tuple[ExpertLine, ...], dict[str, str]]:
    found: list[ExpertLine] = []
    faults: dict[str, str] = {}
    directories = package_directories(root).values() if root.is_dir() else ()
    for directory in directories:
        try:
            shape = _shape_on_disk(directory)
            if shape.rank > config.max_rank and shape.kind != "lokr":
                raise ValueError(f"rank {shape.rank} is above the {config.max_rank} of a slot")
            if shape.virtual_tokens > config.max_virtual_tokens:
                raise ValueError(f"{shape.virtual_tokens} virtual tokens, a slot holds {config.max_virtual_tokens}")
            values = num_values(shape, model)
            found.append(
                ExpertLine(directory.name, shape.label, values, values * adapter_itemsize(config.quantization))
            )
        except (StoreError, ValueError) as fault:
            faults[directory.name] = str(fault)
    return tuple(found), faults


def _shape_on_disk(directory: Path) -> ExpertShape:
    manifest = parse_manifest(read_file(directory / "manifest.json", _MAX_JSON_BYTES))
    config = json.loads(read_file(directory / CONFIG_FILE, _MAX_JSON_BYTES))
    if not isinstance(config, dict):
        raise ValueError(f"{CONFIG_FILE} is not an object")
    return shape_of(config, manifest.soft_prompt.tokens if manifest.soft_prompt else 0)


def _kind_line(kind: ExpertShape, config: EngineConfig, model: ModelConfig) -> KindLine:
    values = num_values(kind, model)
    size = values * adapter_itemsize(config.quantization)
    would_fit = {card: slots_that_fit(config, model, memory, size) for card, memory in CARDS.items()}
    return KindLine(kind.label, kind.targets, values, size, would_fit)


def as_data(found: Report) -> dict[str, Any]:
    """The report for programs; sizes in bytes, with the sums that the table shows."""
    budget = found.budget
    sums = {name: getattr(budget, name) for name in ("weights", "slots", "kv", "step", "total", "free")}
    counts = {"kv_tokens": budget.kv_tokens, "num_contexts": budget.num_contexts}
    return {**asdict(found), "budget": {**asdict(budget), **sums, **counts}}


def lines(found: Report) -> list[str]:
    """The report for people."""
    budget = found.budget
    head = f", head {format_size(budget.head)}" if budget.head else " (also the head)"
    rows = [
        ("weights", budget.weights, f"linear layers {format_size(budget.linears)}, embedding"
         f" {format_size(budget.embedding)}{head}, norms and positions {format_size(budget.norms + budget.rotary)}"),
        ("slots", budget.slots, f"{budget.num_slots} of {format_size(budget.slot)}: rank {found.max_rank} on all"
         " linear layers, whatever is in them"),
        ("KV cache", budget.kv, f"{budget.kv_tokens:,} tokens: {budget.num_contexts} full sequences of"
         f" {budget.max_context:,}"),
        ("step", budget.step, f"{found.max_step_tokens} tokens {format_size(budget.activations)}, context"
         f" gathered {format_size(budget.gathered)}"),
        ("free", budget.free, f"of {format_size(budget.given)}"),
    ]  # fmt: skip
    text = [f"{found.base} in {found.quantization}", ""]
    text += [f"{name:<9}{format_size(size):>12}  {note}" for name, size, note in rows]
    text += ["", f"On the host, at most: lowered experts {format_size(budget.host_cache)}, packages"
             f" {format_size(found.host_bytes)}."]  # fmt: skip
    if found.quantization not in CPU_ONLY:
        text += ["The device's own context and libraries are not counted: give less than the card has."]
    return [*text, *_expert_lines(found), *_kind_lines(found)]


def _expert_lines(found: Report) -> list[str]:
    if not (found.experts or found.faults):
        return []
    text = ["", f"{'expert':<18}{'adapter':<26}{'values':>12}{'bytes':>12}{'of its slot':>13}"]
    for line in found.experts:
        share = 100 * line.value_bytes / found.budget.slot
        text.append(
            f"{line.name:<18}{line.adapter:<26}{line.values:>12,}{format_size(line.value_bytes):>12}{share:>11.1f} %"
        )
    return text + [f"{name:<18}not counted: {fault}" for name, fault in found.faults.items()]


def _kind_lines(found: Report) -> list[str]:
    cards = "".join(f"{card:>9}" for card in CARDS)
    title = f"Slots beside one sequence of {found.budget.max_context:,}"
    text = ["", f"{title:<40}{'bytes':>12}{cards}  on"]
    as_they_are = "".join(f"{found.fit[card]:>9,}" for card in CARDS)
    text.append(f"{'as they are, for any kind':<40}{format_size(found.budget.slot):>12}{as_they_are}")
    for line in found.kinds:
        name = f"if as large as {line.adapter}" if line is found.kinds[0] else f"{'':<15}{line.adapter}"
        counts = "".join(f"{line.would_fit[card]:>9,}" for card in CARDS)
        modules = " ".join(target.removesuffix("_proj") for target in line.targets)
        text.append(f"{name:<40}{format_size(line.value_bytes):>12}{counts}  {modules}")
    return text


def main() -> None:
    """The command alone, for the console script."""
    cli = typer.Typer(add_completion=False)
    cli.command()(plan)
    cli(sys.argv[2:], prog_name="hotseat plan")


if __name__ == "__main__":
    main()
