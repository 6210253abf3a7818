"""`hotseat config show`: every setting, its value, and where the value comes from."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from server.settings import SECTION_OF, SettingsInvalid, loaded
from server.terminal import stdout_console

config_cli = typer.Typer(help="The configuration.", no_args_is_help=True)


@config_cli.callback()
def group() -> None:
    """The configuration."""


@config_cli.command("show")
def show(
    config: Annotated[Path | None, typer.Option(help="TOML file; else HOTSEAT_CONFIG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Print each setting with its value and its origin; of a secret, only whether it is set."""
    try:
        settings, origins = loaded(config)
    except SettingsInvalid as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(2) from None
    values = settings.model_dump(mode="json")
    rows = [(f"{section}.{name}", values[name], origins.get(name, "default")) for name, section in SECTION_OF.items()]
    if as_json:
        data = {key: {"value": value, "origin": origin} for key, value, origin in rows}
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    table = Table("setting", "value", "from")
    for key, value, origin in rows:
        table.add_row(key, "" if value is None else str(value), origin)
    stdout_console().print(table)


def main() -> None:
    """The command alone, for the console script."""
    config_cli(sys.argv[2:], prog_name="hotseat config")
