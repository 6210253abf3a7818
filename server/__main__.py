"""The command `hotseat`: `serve`, and all others that have modules of their own.

Reads options, prints for people, and leaves all work to the application. An option wins over the environment, and
that over the file (`sources.py`).
"""

import json
import shlex
import socket
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from server import __version__, log
from server.app import create_app
from server.config_command import config_cli
from server.expert_commands import experts_cli
from server.generate_command import generate
from server.grammar_command import grammar_cli
from server.key_commands import keys_cli
from server.plan import plan
from server.router_command import router_cli
from server.security import check_bind
from server.services import Lifecycle, Services, build_services
from server.settings import Settings, SettingsInvalid, local_url, settings_with
from server.terminal import KNOWN_ERRORS, print_error
from server.transport import DrainingServer, server_config, settle

_FALLBACK_PROMPT = "Say hello."
cli = typer.Typer(help="Hotseat: one resident base, many experts.", no_args_is_help=True, add_completion=False)
cli.add_typer(experts_cli, name="experts")
cli.add_typer(keys_cli, name="keys")
cli.add_typer(config_cli, name="config")
cli.add_typer(grammar_cli, name="grammar")
cli.add_typer(router_cli, name="router")
cli.command()(plan)
cli.command()(generate)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


@cli.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Hotseat: one resident base, many experts."""


@cli.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; else HOTSEAT_CONFIG.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    base: Annotated[Path | None, typer.Option(help="Directory of the base model, or its name on the hub.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a base from the hub.")] = None,
    experts: Annotated[Path | None, typer.Option(help="Directory of the experts.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    quantization: Annotated[str | None, typer.Option(help="auto, int8, int4, nf4, bf16 or fp32.")] = None,
    kv_dtype: Annotated[str | None, typer.Option(help="auto or int8.")] = None,
    memory: Annotated[str | None, typer.Option(help="Device memory to stay within, such as 20GiB.")] = None,
    keys_file: Annotated[Path | None, typer.Option(help="API keys, made by `hotseat keys add`.")] = None,
    insecure_bind: Annotated[
        bool | None, typer.Option("--insecure-bind", help="Listen where others can reach it, without keys.")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Start the server; says so when it is ready."""
    settings = _settings(
        config,
        host=host,
        port=port,
        base=base,
        revision=revision,
        experts=experts,
        device=device,
        quantization=quantization,
        kv_dtype=kv_dtype,
        memory=memory,
        keys_file=keys_file,
        insecure_bind=insecure_bind,
        log_level=log_level,
        log_format=log_format,
    )
    _run(settings)


def _run(settings: Settings) -> None:
    """Until a signal ends it; exits with the fault where the base or an expert cannot be loaded."""
    log.configure(settings.log_level, settings.log_format)
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    lifecycle = Lifecycle(partial(build_services, settings))

    def ready(services: Services) -> None:
        settle()
        _print_welcome(settings, services)

    try:
        check_bind(settings)
        app = create_app(lifecycle, settings, ready, fail)
        listener = _listen(settings)  # a port in use is noticed before the base is loaded
    except SettingsInvalid as error:
        _exit_with(error)
    server = DrainingServer(server_config(app, settings), app.state.drain)
    with listener:
        server.run(sockets=[listener])
    if failures:
        _exit_with(failures[0])


def welcome_lines(settings: Settings, services: Services) -> tuple[str, str]:
    """Where the server is, and a command that shows it at work."""
    examples = [example for manifest in services.store.list() for example in manifest.routing.examples]
    shown = max((example for example in examples if "\n" not in example), key=len, default=_FALLBACK_PROMPT)
    body = json.dumps({"prompt": shown}, ensure_ascii=False)
    url = local_url(settings)
    key = ' -H "x-api-key: $HOTSEAT_CLIENT__API_KEY"' if settings.keys_file else ""
    curl = f"curl -s {url}/generate{key} -H 'content-type: application/json' -d {shlex.quote(body)}"
    return f"Hotseat is ready on {url}", curl


def _print_welcome(settings: Settings, services: Services) -> None:
    ready, curl = welcome_lines(settings, services)
    Console().print(f"[bold green]{ready}[/bold green]", highlight=False)
    if services.memory:
        Console().print(f"Memory: {services.memory}", style="dim", highlight=False, soft_wrap=True)
    # Straight to standard output: a line that is to be copied must not be wrapped.
    sys.stdout.write(f"Try it:\n{curl}\n")
    sys.stdout.flush()


def _listen(settings: Settings) -> socket.socket:
    """Raises SettingsInvalid."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise SettingsInvalid(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from error


def _settings(config: Path | None = None, **options: object) -> Settings:
    try:
        return settings_with(config, **options)
    except SettingsInvalid as error:
        print_error(str(error))
        raise typer.Exit(2) from None


def _exit_with(error: BaseException) -> NoReturn:
    """Our own errors explain themselves; anything else needs its traceback."""
    if isinstance(error, KNOWN_ERRORS):
        print_error(str(error))
    else:
        log.log_fault("the server could not start", error)
    raise typer.Exit(1)


def main() -> None:
    """The console script."""
    cli()


if __name__ == "__main__":
    main()
