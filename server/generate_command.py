"""`hotseat generate`: one prompt, through the running server or, where none runs, through one in this process.

The rooms take seconds to load, and are loaded in the second case alone.
"""

import asyncio
import importlib
import json
import sys
from typing import Annotated, cast

import httpx
import typer
from rich.console import Console

from server import log
from server.settings import Settings, SettingsInvalid, local_url, settings_with
from server.terminal import KNOWN_ERRORS, print_error


def generate(
    text: Annotated[str, typer.Argument(help="The prompt.")],
    expert: Annotated[list[str] | None, typer.Option(help="Use this expert; may be repeated.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole reply.")] = False,
) -> None:
    """Answer one prompt, through the running server or, where none runs, in this process."""
    try:
        settings = settings_with()
    except SettingsInvalid as error:
        print_error(str(error))
        raise typer.Exit(2) from None
    log.configure("warning")
    try:
        response = asyncio.run(ask(settings, {"prompt": text, "experts": expert or "auto", "max_tokens": max_tokens}))
    except KNOWN_ERRORS as error:
        print_error(str(error))
        raise typer.Exit(1) from None
    if response.status_code != 200:
        print_error(_error_message(response))
        raise typer.Exit(1)
    reply = response.json()
    if as_json:
        sys.stdout.write(json.dumps(reply, indent=2, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(reply["text"] + "\n")
    names = " + ".join(used["name"] for used in reply["experts"]) or "base"
    Console(stderr=True).print(
        f"[dim]{names}, by {reply['routing']['stage']} · {reply['usage']['completion_tokens']} tokens"
        f" · {reply['timings']['total_ms']:.0f} ms[/dim]"
    )


async def ask(settings: Settings, body: dict[str, object]) -> httpx.Response:
    """`POST /generate`, to the server if one listens, else to an application of our own."""
    key = {"x-api-key": settings.api_key.get_secret_value()} if settings.api_key else None
    try:
        async with httpx.AsyncClient(base_url=local_url(settings), timeout=None, headers=key) as client:
            return await client.post("/generate", json=body)
    except httpx.ConnectError:
        own = importlib.import_module("server.own_process")
        return cast(httpx.Response, await own.post(settings, body))


def _error_message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {response.status_code} with something that is not ours"


def main() -> None:
    """The command alone, for the console script."""
    cli = typer.Typer(add_completion=False)
    cli.command()(generate)
    cli(sys.argv[2:], prog_name="hotseat generate")
