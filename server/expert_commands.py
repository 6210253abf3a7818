"""`hotseat experts ...`: the catalogue on this machine, for the operator. A running server notices every change.

Reads options, prints tables for people or JSON for programs, and leaves all work to the store. Refusals end with 1 and,
with `--json`, as an object with `error`.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.progress import track

from adapters_store.errors import GenerationConflict, PackageInvalid, StoreError
from adapters_store.files import write_durably
from adapters_store.hivellm import import_hivellm, is_hivellm
from adapters_store.importing import Imported, import_peft, migrate
from adapters_store.installer import ANY, Change, Installer, read_content
from adapters_store.manifest import SIGNATURE_FILE
from adapters_store.package import MANIFEST_FILE, describe_package, read_package, write_package
from adapters_store.policy import Policy
from adapters_store.signature import new_key, public_bytes, read_private_key, sign
from adapters_store.store import AdapterStore, ExpertState
from server.expert_views import list_table, ps_table, short, show_table, state_data
from server.packages import fingerprint_of, installing_policy, policy_of, read_source
from server.settings import ServerError, Settings, SettingsInvalid, local_url, settings_with

Experts = Annotated[Path | None, typer.Option("--experts", help="Directory of the experts.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Expect = Annotated[str | None, typer.Option(help="Only if this generation serves now.")]
AnyBase = Annotated[bool, typer.Option("--any-base", help="Also if it was made for another base than --base.")]
Base = Annotated[Path | None, typer.Option("--base", help="The base that experts are for; HOTSEAT_BASE.")]
Name = Annotated[str, typer.Argument(help="An expert, or an alias of one.")]

experts_cli = typer.Typer(help="The experts: packages on disk, and who serves under which name.", no_args_is_help=True)


@experts_cli.command("list")
def list_experts(experts: Experts = None, as_json: Json = False) -> None:
    """What there is, and what is wrong with what cannot be used."""
    with _answering(as_json) as out:
        store = _store(_settings(experts=experts))
        states = store.states()
        out.tell([state_data(state, store.policy) for state in states], lambda: list_table(states, store.policy))


@experts_cli.command()
def show(name: Name, experts: Experts = None, as_json: Json = False) -> None:
    """Everything about one expert."""
    with _answering(as_json) as out:
        store = _store(_settings(experts=experts))
        state = _state(store, name)
        files = [
            {"name": entry.name, "bytes": entry.size} for entry in (state.manifest.files if state.manifest else ())
        ]
        out.tell({**state_data(state, store.policy), "files": files}, lambda: show_table(state, store.policy))


@experts_cli.command()
def add(
    package: Annotated[Path, typer.Argument(help="A package: a directory with a manifest.json.")],
    experts: Experts = None,
    base: Base = None,
    any_base: AnyBase = False,
    as_json: Json = False,
) -> None:
    """Install a new expert."""
    with _answering(as_json) as out:
        settings = _settings(experts=experts, base=base)
        policy = installing_policy(settings, any_base)
        out.changed(_new(settings, policy, read_content(package, policy)))


@experts_cli.command("import")
def import_expert(
    source: Annotated[Path, typer.Argument(help="A PEFT directory, a .expert archive, or a repository of the hub.")],
    name: Annotated[str | None, typer.Option(help="The expert's name; a HiveLLM archive has one.")] = None,
    description: Annotated[str, typer.Option(help="What it does, of a bare PEFT adapter.")] = "",
    model: Annotated[str | None, typer.Option(help="Which of a HiveLLM archive's bases.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a repository of the hub.")] = None,
    experts: Experts = None,
    base: Base = None,
    as_json: Json = False,
) -> None:
    """Make a package of somebody else's adapter and install it, as one for the base of the settings."""
    with _answering(as_json) as out:
        settings = _settings(experts=experts, base=base)
        policy = installing_policy(settings, any_base=False)
        imported = _imported(source, revision, policy.base or fingerprint_of(settings), name, description, model)
        out.changed(_new(settings, policy, imported.content), ignored=list(imported.ignored))


@experts_cli.command()
def replace(
    name: Name,
    package: Annotated[Path | None, typer.Argument(help="The new package; none to swap with the standby.")] = None,
    expect: Expect = None,
    experts: Experts = None,
    base: Base = None,
    any_base: AnyBase = False,
    as_json: Json = False,
) -> None:
    """Let another generation serve: a new package, or the one that stands by. Running answers end on the old one."""
    with _answering(as_json) as out:
        settings = _settings(experts=experts, base=base)
        if package is None:
            out.changed(_installer(settings, policy_of(settings)).swap(name, expect or ANY))
            return
        policy = installing_policy(settings, any_base)
        content = read_content(package, policy)
        known = _state(_store(settings), name).name
        offered = describe_package(package, policy).manifest.name
        if offered != known:
            raise PackageInvalid(offered, f"it cannot replace the expert {known!r}", "name_mismatch")
        out.changed(_installer(settings, policy).install(content, expect or ANY))


@experts_cli.command()
def remove(name: Name, expect: Expect = None, experts: Experts = None, as_json: Json = False) -> None:
    """Forget an expert with its aliases, or an alias alone. Running answers end on it."""
    with _answering(as_json) as out:
        settings = _settings(experts=experts)
        _installer(settings, policy_of(settings)).remove(name, expect or ANY)
        out.tell({"removed": name}, lambda: f"{name} is removed")


@experts_cli.command()
def alias(
    name: Annotated[str, typer.Argument(help="The other name.")],
    expert: Name,
    experts: Experts = None,
    as_json: Json = False,
) -> None:
    """Give an expert another name, or move that name to it."""
    with _answering(as_json) as out:
        settings = _settings(experts=experts)
        _installer(settings, policy_of(settings)).alias(name, expert)
        out.tell({"alias": name, "name": expert}, lambda: f"{name} now means {expert}")


@experts_cli.command()
def pin(name: Name, experts: Experts = None, as_json: Json = False) -> None:
    """Keep an expert in host memory once it was used."""
    _pin(name, True, experts, as_json)


@experts_cli.command()
def unpin(name: Name, experts: Experts = None, as_json: Json = False) -> None:
    """Let an expert be evicted again."""
    _pin(name, False, experts, as_json)


@experts_cli.command()
def ps(as_json: Json = False) -> None:
    """What the running server holds in memory; needs its admin key in HOTSEAT_ADMIN_KEY."""
    with _answering(as_json) as out:
        settings = _settings()
        if settings.admin_key is None:
            raise SettingsInvalid("ps asks the running server, which wants its admin key: set HOTSEAT_ADMIN_KEY")
        headers = {"authorization": f"Bearer {settings.admin_key.get_secret_value()}"}
        try:
            answer = httpx.get(f"{local_url(settings)}/admin/state", headers=headers, timeout=10)
        except httpx.HTTPError as error:
            raise ServerError(f"no server answers on {local_url(settings)}: {error}") from error
        if answer.status_code != 200:
            raise ServerError(f"the server answered {answer.status_code}: is its admin key this one?")
        state = answer.json()
        out.tell(state, lambda: ps_table(state))


@experts_cli.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experts, or directories of packages; none for all.")
    ] = None,
    experts: Experts = None,
    as_json: Json = False,
) -> None:
    """Read and check every byte and signature."""
    with _answering(as_json) as out:
        store = _store(_settings(experts=experts))
        places = _places(store, names or [])
        found = [
            _verified(name, place, store.policy)
            for name, place in track(
                places, "verifying", console=out.stderr, disable=not out.is_talking, transient=True
            )
        ]
        lines = [f"{line['name']}: {line.get('fault') or 'whole, ' + str(line['signature'])}" for line in found]
        out.tell(found, lambda: "\n".join(lines))
        if any("fault" in line for line in found):
            raise typer.Exit(1)


@experts_cli.command("sign")
def sign_package(
    package: Annotated[Path, typer.Argument(help="The package's directory.")],
    key: Annotated[Path, typer.Option(help="The private key, as keygen makes it.")],
    as_json: Json = False,
) -> None:
    """Sign a package before it is added: writes manifest.sig into its directory."""
    with _answering(as_json) as out:
        private = read_private_key(key)
        (package / SIGNATURE_FILE).unlink(missing_ok=True)
        read_package(package)
        write_durably(package / SIGNATURE_FILE, sign((package / MANIFEST_FILE).read_bytes(), private))
        signer = public_bytes(private.public_key()).hex()
        out.tell({"name": package.name, "signer": signer}, lambda: f"{package.name} is signed by {signer}")


@experts_cli.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="Where the private key goes; the public one lies beside it as .pub.")],
    as_json: Json = False,
) -> None:
    """Make a pair of keys for signing."""
    with _answering(as_json) as out:
        public = public_bytes(new_key(path)).hex()
        out.tell({"path": str(path), "public_key": public}, lambda: f"{path} and {path}.pub, public key {public}")


@experts_cli.command("migrate")
def migrate_packages(
    packages: Annotated[list[Path], typer.Argument(help="Directories of packages.")], as_json: Json = False
) -> None:
    """Rewrite packages of version 1 as version 2, in place. A signature has to be made again."""
    with _answering(as_json) as out:
        done = []
        for package in track(packages, "migrating", console=out.stderr, disable=not out.is_talking, transient=True):
            before = read_package(package)
            imported = migrate(read_content(package))
            if before.manifest.schema_version != 2:
                files = {entry.name: imported.content[entry.name] for entry in before.manifest.files}
                write_package(package, _manifest_of(imported), files)
            done.append(
                {"name": imported.name, "from": before.manifest.schema_version, "dropped": list(imported.ignored)}
            )
        out.tell(done, lambda: "\n".join(f"{line['name']}: from version {line['from']}" for line in done))
