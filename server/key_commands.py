"""`hotseat keys`: make, list and revoke API keys in their file. A running server notices at its next request."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from adapters_store.errors import StoreError
from adapters_store.index import IndexFile, package_directories
from server.keys import SCOPES, KeyFile, KeysInvalid, Scope
from server.settings import SettingsInvalid, settings_with
from server.terminal import print_error, stdout_console

keys_cli = typer.Typer(help="The API keys that the server asks for.", no_args_is_help=True)

File = Annotated[Path | None, typer.Option("--file", help="The file of keys; else the setting keys_file.")]


@keys_cli.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Who gets it; the list shows this.")],
    file: File = None,
    scope: Annotated[list[str] | None, typer.Option(help="generate (default), metrics or admin; repeatable.")] = None,
    expert: Annotated[list[str] | None, typer.Option(help="Only these experts, beside the base; repeatable.")] = None,
    max_concurrent: Annotated[int | None, typer.Option(help="Requests at one time.")] = None,
) -> None:
    """Make a key and print it, this once: the file holds only a hash of it."""
    keys = _keys(file)
    try:
        scopes = [_scope(given) for given in scope or ["generate"]]
        token = keys.add(name, scopes, expert or None, max_concurrent)
    except KeysInvalid as error:
        _fail(error)
    for stranger in _strangers(expert or ()):
        print_error(f"there is no expert {stranger!r} yet; the key opens it when there is one")
    sys.stdout.write(token + "\n")
    Console(stderr=True).print(f"Written to {keys.path}. Keep the key: it cannot be shown again.", style="dim")


@keys_cli.command("list")
def show(file: File = None, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """What each key may do; never the key."""
    try:
        entries = _keys(file).entries()
    except KeysInvalid as error:
        _fail(error)
    if as_json:
        data = [entry.model_dump(exclude={"salt", "hash"}) for entry in entries]
        sys.stdout.write(json.dumps(data, indent=2) + "\n")
        return
    table = Table("id", "name", "scopes", "experts", "at one time", "created")
    for entry in entries:
        experts = "all" if entry.experts is None else ", ".join(entry.experts) or "none"
        table.add_row(
            entry.id, entry.name, ", ".join(entry.scopes), experts, str(entry.max_concurrent or ""), entry.created
        )
    stdout_console().print(table)


@keys_cli.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="Its id or name.")], file: File = None) -> None:
    """Take a key out; it is refused from the next request on."""
    try:
        entry = _keys(file).revoke(key)
    except KeysInvalid as error:
        _fail(error)
    Console(stderr=True).print(f"Revoked {entry.name} ({entry.id}).")


def _keys(file: Path | None) -> KeyFile:
    try:
        path = file or settings_with().keys_file
    except SettingsInvalid as error:
        _fail(error)
    if path is None:
        _fail(SettingsInvalid("which file of keys? give --file, or set keys_file (HOTSEAT_SECURITY__KEYS_FILE)"))
    return KeyFile(path)


def _strangers(experts: Iterable[str]) -> list[str]:
    """Those that the directory of experts does not have now; none where it cannot be told."""
    try:
        root = settings_with().experts
        known = {*package_directories(root), *IndexFile(root).read().aliases} if root.is_dir() else set()
    except (SettingsInvalid, StoreError, OSError):
        return []
    return [name for name in experts if name not in known]


def _scope(given: str) -> Scope:
    for scope in SCOPES:
        if scope == given:
            return scope
    raise KeysInvalid(f"scope {given!r} is not one of {', '.join(SCOPES)}")


def _fail(error: Exception) -> NoReturn:
    Console(stderr=True).print(str(error), style="red", markup=False, highlight=False)
    raise typer.Exit(2)


def main() -> None:
    """The commands alone, for the console script."""
    keys_cli(sys.argv[2:], prog_name="hotseat keys")
