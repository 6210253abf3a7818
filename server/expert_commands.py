"""`hotseat experts ...`: who serves under which name on this machine, for the operator.

Reads options and leaves all work to the store; a running server notices every change by itself. Packages in their own
directories are `package_commands`' business.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import httpx
import typer

from adapters_store.errors import GenerationConflict, PackageInvalid
from adapters_store.installer import ANY, Change, Installer, name_of, read_content
from adapters_store.manifest import CONFIG_FILE
from adapters_store.package import MANIFEST_FILE
from adapters_store.policy import Policy
from adapters_store.store import AdapterStore
from server.expert_views import list_table, ps_table, short, show_table, state_data, storage_data
from server.package_commands import keygen, migrate_packages, sign_package, verify
from server.packages import Source, fingerprint_of, import_source, installing_policy, policy_of, storage_of
from server.settings import ServerError, Settings, SettingsInvalid, local_url, settings_with
from server.terminal import Out, answering, stdout_console


class ExpertExists(ServerError):
    """Installing leaves what serves alone; `way_out` is the command that does not."""

    def __init__(self, name: str, way_out: str) -> None:
        super().__init__(f"there is an expert {name!r} already; `hotseat experts {way_out}` replaces it")


Experts = Annotated[Path | None, typer.Option("--experts", help="Directory of the experts.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Expect = Annotated[str | None, typer.Option(help="Only if this generation serves now.")]
AnyBase = Annotated[bool, typer.Option("--any-base", help="Also if it was made for another base than --base.")]
Base = Annotated[Path | None, typer.Option("--base", help="The base that the experts are for.")]
Name = Annotated[str, typer.Argument(help="An expert, or an alias of one.")]

experts_cli = typer.Typer(
    help="The experts: packages on disk, and who serves under which name.",
    no_args_is_help=True,
    add_completion=False,
)
for command, word in ((verify, "verify"), (sign_package, "sign"), (keygen, "keygen"), (migrate_packages, "migrate")):
    experts_cli.command(word)(command)


@experts_cli.command("list")
def list_experts(experts: Experts = None, as_json: Json = False) -> None:
    """What there is, and what is wrong with what cannot be used."""
    with answering(as_json) as out:
        store = _store(settings_with(experts=experts))
        states = store.states()
        out.tell(
            [state_data(state, store.policy) for state in states],
            lambda: list_table(states, store.policy, stdout_console().width),
        )


@experts_cli.command()
def show(name: Name, experts: Experts = None, base: Base = None, as_json: Json = False) -> None:
    """Everything about one expert, and what the setting adapter_storage in fewer bits would cost it."""
    with answering(as_json) as out:
        settings = settings_with(experts=experts, base=base)
        store = _store(settings)
        state = store.state(name)
        with out.working("measuring the forms of storage"):
            storage = storage_of(state, settings)
        files = [
            {"name": entry.name, "bytes": entry.size} for entry in (state.manifest.files if state.manifest else ())
        ]
        data = {**state_data(state, store.policy), "files": files, "storage": storage_data(storage)}
        out.tell(data, lambda: show_table(state, store.policy, storage))


@experts_cli.command()
def add(
    package: Annotated[Path, typer.Argument(help="A package: a directory with a manifest.json.")],
    experts: Experts = None,
    base: Base = None,
    any_base: AnyBase = False,
    as_json: Json = False,
) -> None:
    """Install a new expert."""
    with answering(as_json) as out:
        settings = settings_with(experts=experts, base=base)
        with out.working("checking the package"):
            policy = installing_policy(settings, None if any_base else fingerprint_of(settings))
            change = _install_new(settings, policy, _package(package, policy), "replace {name} PACKAGE")
        _tell_change(out, change)


@experts_cli.command("import")
def import_expert(
    source: Annotated[Path, typer.Argument(help="A PEFT directory, an archive, or a repository of the hub.")],
    name: Annotated[str | None, typer.Option(help="The expert's name, where the source does not say.")] = None,
    description: Annotated[str, typer.Option(help="What it does, of a bare PEFT adapter.")] = "",
    model: Annotated[str | None, typer.Option(help="Which of a HiveLLM archive's bases.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of a repository of the hub.")] = None,
    is_replacing: Annotated[bool, typer.Option("--replace", help="Let it replace an expert of its name.")] = False,
    experts: Experts = None,
    base: Base = None,
    as_json: Json = False,
) -> None:
    """Make a package of somebody else's adapter and install it, as one for --base."""
    with answering(as_json) as out:
        settings = settings_with(experts=experts, base=base)
        with out.working("importing"):
            fingerprint = fingerprint_of(settings)
            policy = installing_policy(settings, fingerprint)
            imported = import_source(Source(source, revision, name, description, model), fingerprint)
            if is_replacing:
                change = _installer(settings, policy).install(imported.content)
            else:
                change = _install_new(settings, policy, imported.content, "import --replace")
        _tell_change(out, change, imported.ignored)


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
    with answering(as_json) as out:
        settings = settings_with(experts=experts, base=base)
        if package is None:
            _tell_change(out, _installer(settings, policy_of(settings)).swap(name, expect or ANY))
            return
        with out.working("checking the package"):
            policy = installing_policy(settings, None if any_base else fingerprint_of(settings))
            content = _package(package, policy)
            known, offered = _store(settings).state(name).name, name_of(content)
            if offered != known:
                raise PackageInvalid(offered, f"it cannot replace the expert {known!r}", "name_mismatch")
            change = _installer(settings, policy).install(content, expect or ANY)
        _tell_change(out, change)


@experts_cli.command()
def remove(name: Name, expect: Expect = None, experts: Experts = None, as_json: Json = False) -> None:
    """Forget an expert with its aliases, or an alias alone. Running answers end on it."""
    with answering(as_json) as out:
        settings = settings_with(experts=experts)
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
    with answering(as_json) as out:
        settings = settings_with(experts=experts)
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
    """What the running server holds in memory; needs its admin key in HOTSEAT_SECURITY__ADMIN_KEY."""
    with answering(as_json) as out:
        settings = settings_with()
        if settings.admin_key is None:
            raise SettingsInvalid(
                "ps asks the running server, which wants its admin key: set HOTSEAT_SECURITY__ADMIN_KEY"
            )
        url, key = local_url(settings), settings.admin_key.get_secret_value()
        try:
            answer = httpx.get(f"{url}/admin/state", headers={"authorization": f"Bearer {key}"}, timeout=10)
        except httpx.HTTPError as error:
            raise ServerError(f"no server answers on {url}: {error}") from error
        if answer.status_code != 200:
            raise ServerError(f"the server on {url} answered {answer.status_code}: is its admin key this one?")
        state = answer.json()
        out.tell(state, lambda: ps_table(state))


def _pin(name: str, is_pinned: bool, experts: Path | None, as_json: bool) -> None:
    with answering(as_json) as out:
        settings = settings_with(experts=experts)
        _installer(settings, policy_of(settings)).pin(name, is_pinned)
        out.tell({"name": name, "pinned": is_pinned}, lambda: f"{name} is {'pinned' if is_pinned else 'unpinned'}")


def _store(settings: Settings) -> AdapterStore:
    return AdapterStore(settings.experts, settings.host_memory_bytes, policy=policy_of(settings))


def _installer(settings: Settings, policy: Policy) -> Installer:
    return Installer(settings.experts, policy)


def _install_new(settings: Settings, policy: Policy, content: Mapping[str, bytes], way_out: str) -> Change:
    """Raises ExpertExists, whose way out may hold the `{name}`."""
    try:
        return _installer(settings, policy).install(content, expected=None)
    except GenerationConflict as conflict:
        raise ExpertExists(conflict.name, way_out.format(name=conflict.name)) from None


def _package(directory: Path, policy: Policy) -> dict[str, bytes]:
    """Its files. Raises PackageInvalid, which says of somebody else's adapter how it becomes a package."""
    if (directory / CONFIG_FILE).is_file() and not (directory / MANIFEST_FILE).exists():
        raise PackageInvalid(
            directory.name,
            f"it is a PEFT adapter without a {MANIFEST_FILE}; `hotseat experts import` makes a package of it",
            "manifest_missing",
        )
    return read_content(directory, policy)


def _tell_change(out: Out, change: Change, ignored: tuple[str, ...] = ()) -> None:
    data = {"name": change.name, "generation": change.generation, "previous": change.previous, "ignored": [*ignored]}
    verb = "replaced" if change.previous else "installed"
    note = f"\nnot taken: {', '.join(ignored)}" if ignored else ""
    out.tell(data, lambda: f"{change.name} is {verb}: {short(change.generation)}{note}")


def main() -> None:
    """The commands alone, for the console script."""
    experts_cli(sys.argv[2:], prog_name="hotseat experts")


if __name__ == "__main__":
    main()
