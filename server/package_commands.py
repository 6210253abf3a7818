"""`hotseat experts verify|sign|keygen|migrate`: packages as such, in the catalogue or in a directory of their own.

Reads options and leaves all work to the store.
"""

from pathlib import Path
from typing import Annotated

import typer

from adapters_store.errors import ExpertNotFound, PackageInvalid
from adapters_store.files import read_file, write_durably
from adapters_store.importing import migrate
from adapters_store.installer import read_content
from adapters_store.manifest import SCHEMA_VERSION, SIGNATURE_FILE, parse_manifest
from adapters_store.package import MANIFEST_FILE, describe_package, read_package, write_package
from adapters_store.policy import LENIENT, Policy
from adapters_store.signature import new_key, public_bytes, read_private_key, sign
from adapters_store.store import AdapterStore
from server.expert_views import signature_label
from server.packages import policy_of
from server.settings import settings_with
from server.terminal import answering

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Experts, or directories of packages; none for all experts.")
    ] = None,
    experts: Annotated[Path | None, typer.Option("--experts", help="Directory of the experts.")] = None,
    as_json: Json = False,
) -> None:
    """Read and check every byte and signature."""
    with answering(as_json) as out:
        settings = settings_with(experts=experts)
        policy = policy_of(settings)
        store = AdapterStore(settings.experts, settings.host_memory_bytes, policy=policy)
        places = _places(store, names or [])
        found = [_verified(name, place, policy) for name, place in out.each(places, "verifying")]
        out.tell(found, lambda: "\n".join(map(_line, found)))
        if any("fault" in line for line in found):
            raise typer.Exit(1)


def sign_package(
    package: Annotated[Path, typer.Argument(help="The package's directory.")],
    key: Annotated[Path, typer.Option(help="The private key, as keygen makes it.")],
    as_json: Json = False,
) -> None:
    """Sign a package before it is added: writes manifest.sig into its directory."""
    with answering(as_json) as out:
        package, private = package.resolve(), read_private_key(key)
        raw = read_file(package / MANIFEST_FILE, LENIENT.max_package_bytes)
        signature = sign(raw, private)
        (package / SIGNATURE_FILE).unlink(missing_ok=True)
        read_package(package)  # nobody signs what could not be served
        write_durably(package / SIGNATURE_FILE, signature)
        signer = public_bytes(private.public_key()).hex()
        out.tell({"name": package.name, "signer": signer}, lambda: f"{package.name} is signed by {signer}")


def keygen(
    path: Annotated[Path, typer.Argument(help="Where the private key goes; the public one lies beside it as .pub.")],
    as_json: Json = False,
) -> None:
    """Make a pair of keys for signing."""
    with answering(as_json) as out:
        public = public_bytes(new_key(path)).hex()
        out.tell({"path": str(path), "public_key": public}, lambda: f"{path} and {path}.pub, public key {public}")


def migrate_packages(
    packages: Annotated[list[Path], typer.Argument(help="Directories of packages.")], as_json: Json = False
) -> None:
    """Rewrite packages of version 1 as version 2, in place. A signature has to be made again."""
    with answering(as_json) as out:
        done = [_migrated(package.resolve()) for package in out.each(packages, "migrating")]
        lines = [f"{line['name']}: version {line['from']} -> {SCHEMA_VERSION}" for line in done]
        out.tell(done, lambda: "\n".join(lines))


def _places(store: AdapterStore, names: list[str]) -> list[tuple[str, Path]]:
    """Of experts by name, else of directories as they are given."""
    if not names:
        return [(state.name, state.directory) for state in store.states()]
    places = []
    for name in names:
        try:
            state = store.state(name)
            places.append((state.name, state.directory))
        except ExpertNotFound:
            if not Path(name).is_dir():
                raise
            places.append((name, Path(name).resolve()))
    return places


def _verified(name: str, place: Path, policy: Policy) -> dict[str, object]:
    try:
        adapter = read_package(place, policy)
        signature = signature_label(describe_package(place, policy).signer, policy)
    except PackageInvalid as refusal:
        return {"name": name, "fault": refusal.fault, "code": refusal.code}
    return {"name": name, "generation": adapter.generation, "signature": signature}


def _line(found: dict[str, object]) -> str:
    return f"{found['name']}: " + (str(found["fault"]) if "fault" in found else f"whole, {found['signature']}")


def _migrated(package: Path) -> dict[str, object]:
    before = read_package(package).manifest
    imported = migrate(read_content(package))
    if before.schema_version != SCHEMA_VERSION:
        files = {entry.name: imported.content[entry.name] for entry in before.files}
        write_package(package, parse_manifest(imported.content[MANIFEST_FILE]), files)
    return {"name": imported.name, "from": before.schema_version, "dropped": list(imported.ignored)}
