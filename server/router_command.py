"""`hotseat router train | eval | explain`: the router from the command line, without a base or an engine."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, cast

import typer
from rich.console import Console
from rich.table import Table

from adapters_store.errors import StoreError
from adapters_store.manifest import Manifest
from adapters_store.store import AdapterStore
from router.decision import RouteQuery
from router.encoder import load_encoder
from router.errors import RouterError
from router.evaluate import LabelledPrompt, evaluate
from router.fit import Epoch, FitConfig
from router.model import save_model
from router.pipeline import Router
from router.train import Split, TrainingRow, train
from server.live_router import trained_router
from server.router_schemas import reply_of_route
from server.settings import Settings, SettingsInvalid, settings_with
from server.terminal import stdout_console

router_cli = typer.Typer(help="The router: train it, measure it, ask it why.", no_args_is_help=True)

_Experts = Annotated[Path | None, typer.Option(help="Directory of the experts.")]
_Folder = Annotated[Path | None, typer.Option("--router", help="Directory of the trained router.")]
_Encoder = Annotated[str | None, typer.Option(help="embedded, a directory, all-MiniLM-L6-v2 or a name on the hub.")]
_SPLITS = ("train", "held", "calibrate")


@router_cli.command("train")
def train_command(
    rows: Annotated[
        Path, typer.Argument(help='JSON lines {"text", "experts": [...], "split": train|held|calibrate, "is_own"?}.')
    ],
    out: Annotated[Path, typer.Argument(help="Directory to write; a running server that uses it takes it up.")],
    experts: _Experts = None,
    encoder: _Encoder = None,
    balance: Annotated[float, typer.Option(help="Weight of the balance loss at the start; it falls to 0.")] = 0.1,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the rows.")] = 20,
    seed: Annotated[int, typer.Option(help="The same rows and seed make the same router.")] = 7,
) -> None:
    """Fit heads, network, temperatures and thresholds; logs loss, routing entropy and usage of the experts."""
    settings = _settings(experts=experts, router_encoder=encoder)
    try:
        labelled = read_training_rows(rows)
        config = FitConfig(balance=balance, epochs=epochs, seed=seed)
        names = sorted({name for row in labelled for name in row.experts})
        model = train(labelled, _manifests(settings), load_encoder(settings.router_encoder), config, _printer(names))
        save_model(out, model)
    except (RouterError, StoreError, SettingsInvalid) as fault:
        _fail(fault)
    Console().print(f"wrote {out}: {len(model.names)} experts, calibrated on {model.calibration[:12]}", highlight=False)


@router_cli.command("eval")
def eval_command(
    rows: Annotated[Path, typer.Argument(help='JSON lines {"text", "expert": name or null, "also": [...]}.')],
    experts: _Experts = None,
    router: _Folder = None,
    encoder: _Encoder = None,
    show_wrong: Annotated[bool, typer.Option("--wrong", help="Print the rows that went wrong.")] = False,
) -> None:
    """Accuracy, abstention, calibration and what decided."""
    built = _router(_settings(experts=experts, router=router, router_encoder=encoder))
    try:
        found = evaluate(built, read_labelled(rows))
    except SettingsInvalid as fault:
        _fail(fault)
    table = Table("rows", "right", "lower bound", "false experts", "ECE", "stages")
    stages = ", ".join(f"{stage} {count}" for stage, count in sorted(found.stages.items()))
    table.add_row(
        str(found.total),
        f"{found.accuracy:.2%}",
        f"{found.lower:.2%}",
        f"{found.false_experts:.2%}",
        f"{found.calibration_error:.3f}",
        stages,
    )
    stdout_console().print(table)
    if show_wrong:
        for row in found.wrong:
            line = {"text": row.text, "expected": row.expected, "chosen": row.chosen, "reason": row.reason}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


@router_cli.command("explain")
def explain_command(
    text: Annotated[str, typer.Argument(help="The prompt.")],
    max_experts: Annotated[int, typer.Option(min=1, max=10, help="How many may be chosen.")] = 1,
    allowed: Annotated[list[str] | None, typer.Option(help="Choose among these alone; may be repeated.")] = None,
    experts: _Experts = None,
    router: _Folder = None,
    encoder: _Encoder = None,
) -> None:
    """What the router does with a prompt and why, as `POST /route` says it."""
    built = _router(_settings(experts=experts, router=router, router_encoder=encoder))
    decision = built.route(RouteQuery(text, max_experts, frozenset(allowed) if allowed else None))
    sys.stdout.write(reply_of_route(decision, 0.0).model_dump_json(indent=2, exclude={"latency_ms"}) + "\n")


def read_training_rows(path: Path) -> list[TrainingRow]:
    """Raises SettingsInvalid that names the first faulty line."""
    found = []
    for number, row in _json_lines(path):
        text, experts, split = row.get("text"), row.get("experts"), row.get("split", "train")
        if not isinstance(text, str) or not isinstance(experts, list) or split not in _SPLITS:
            raise SettingsInvalid(f'{path}:{number}: send {{"text", "experts": [names], "split"}}')
        is_own = row.get("is_own", True) is not False
        found.append(TrainingRow(text, tuple(map(str, experts)), cast(Split, split), is_own))
    return found


def read_labelled(path: Path) -> list[LabelledPrompt]:
    """Raises SettingsInvalid that names the first faulty line."""
    found = []
    for number, row in _json_lines(path):
        text, expert, also = row.get("text"), row.get("expert"), row.get("also", [])
        if not isinstance(text, str) or not (expert is None or isinstance(expert, str)) or not isinstance(also, list):
            raise SettingsInvalid(f'{path}:{number}: send {{"text", "expert": name or null}}')
        found.append(LabelledPrompt(text, (expert, *also) if expert else ()))
    return found


def _json_lines(path: Path) -> list[tuple[int, dict[str, object]]]:
    found = []
    try:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.strip():
                found.append((number, dict(json.loads(line))))
    except (OSError, ValueError, TypeError) as fault:
        raise SettingsInvalid(f"{path}: {fault}") from fault
    return found


def _manifests(settings: Settings) -> tuple[Manifest, ...]:
    return AdapterStore(settings.experts, 0).list()


def _router(settings: Settings) -> Router:
    try:
        return trained_router(settings).build(_manifests(settings))
    except (RouterError, StoreError) as fault:
        _fail(fault)


def _printer(names: list[str]) -> Callable[[int, Epoch], None]:
    def note(number: int, epoch: Epoch) -> None:
        usage = ", ".join(f"{n} {share:.3f}" for n, share in zip([*names, "none"], epoch.usage, strict=True))
        Console().print(
            f"epoch {number}: loss {epoch.loss:.4f} · entropy {epoch.entropy:.3f} · {usage}", highlight=False
        )

    return note


def _settings(**options: object) -> Settings:
    try:
        return settings_with(None, **options)
    except SettingsInvalid as fault:
        _fail(fault)


def _fail(fault: Exception) -> NoReturn:
    Console(stderr=True).print(str(fault), style="red", markup=False, highlight=False)
    raise typer.Exit(1)
