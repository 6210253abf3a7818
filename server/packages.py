"""What the operator's commands need of packages: the settings' policy, a base's fingerprint, sources to take from.

Paths come from the operator alone, never from a client. Knows the store's formats and no HTTP.
"""

from dataclasses import dataclass
from pathlib import Path

from adapters_store.archive import read_archive
from adapters_store.errors import BaseModelInvalid, PackageInvalid
from adapters_store.files import read_file
from adapters_store.fingerprint import base_fingerprint
from adapters_store.hivellm import import_hivellm, is_hivellm
from adapters_store.importing import PICKLES, Imported, import_peft, migrate
from adapters_store.installer import read_content
from adapters_store.manifest import CONFIG_FILE, GRAMMAR_FILE, README_FILE, SOFT_PROMPT_FILE, WEIGHTS_FILE
from adapters_store.package import MANIFEST_FILE, read_package
from adapters_store.policy import LENIENT, Policy
from adapters_store.signature import read_trusted_keys
from adapters_store.store import ExpertState
from engine.config import EngineConfig
from engine.errors import AdapterIncompatible, UnsupportedModel
from engine.packing import PackingError
from engine.storage_report import storage_report
from server.base import BASE_FILES, resolve_base
from server.hub import Download, Need, resolve
from server.settings import Settings, SettingsInvalid

ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE, SOFT_PROMPT_FILE, GRAMMAR_FILE, README_FILE)
_NEED = Need(
    purpose="and no archive to import an adapter from",
    options="--revision",
    way_out="Without the hub, copy the adapter's files to this machine and import their directory.",
)


@dataclass(frozen=True, slots=True)
class Source:
    """What the operator points to: a PEFT directory, a package, an archive, or a repository of the hub."""

    place: Path
    revision: str | None = None
    """The commit of a repository."""
    name: str | None = None
    """What the expert shall be called, where the source does not say."""
    description: str = ""
    model: str | None = None
    """Which of a HiveLLM archive's bases."""


def policy_of(settings: Settings, base: str | None = None, max_rank: int | None = None) -> Policy:
    """Raises SettingsInvalid where signatures are required and nobody is trusted, and KeyInvalid."""
    if settings.require_signature and settings.trusted_keys is None:
        raise SettingsInvalid(
            "require_signature is on and no key is trusted: name a .pub file, or a directory of them, with"
            " HOTSEAT_STORE__TRUSTED_KEYS"
        )
    keys = frozenset[bytes]() if settings.trusted_keys is None else read_trusted_keys(settings.trusted_keys)
    return Policy(max_rank=max_rank, base=base, require_signature=settings.require_signature, trusted_keys=keys)


def installing_policy(settings: Settings, base: str | None) -> Policy:
    """What may come in: what fits a slot and, where `base` is given, was made for it."""
    return policy_of(settings, base, EngineConfig(settings.base).max_rank)


def fingerprint_of(settings: Settings) -> str:
    """Reads all weights of the base; raises SettingsInvalid or BaseModelInvalid."""
    return base_fingerprint(resolve_base(settings.base, settings.revision, BASE_FILES))


def storage_of(state: ExpertState, settings: Settings) -> tuple[PackingError, ...] | str:
    """What each form of storage takes and costs; or why that cannot be said. The hub is not asked."""
    if not settings.base.is_dir():
        return f"the base {settings.base.as_posix()} is no directory here"
    if state.manifest is None:
        return "the package is broken"
    try:
        return storage_report(read_package(state.directory, policy_of(settings)), settings.base)
    except (PackageInvalid, BaseModelInvalid, AdapterIncompatible, UnsupportedModel) as fault:
        return str(fault)


def import_source(source: Source, base: str, download: Download | None = None) -> Imported:
    """A package of what the source holds, as one for `base`. Raises PackageInvalid, or SettingsInvalid of the hub."""
    files = read_source(source, download)
    if is_hivellm(files):
        return import_hivellm(files, base, source.name, source.model)
    if MANIFEST_FILE in files:
        return migrate(files)
    name = source.name or source.place.resolve().name.lower()
    origin = f"{source.place.as_posix()} at {source.revision}" if source.revision else "PEFT adapter"
    return import_peft(files, name, base, source.description, origin)


def read_source(source: Source, download: Download | None = None) -> dict[str, bytes]:
    """Its files. Of an adapter's directory and of a repository only what a package may hold is read; of pickles only
    the names, which is enough to refuse them.
    """
    if source.place.is_file():
        return read_archive(source.place)
    if not source.place.is_dir():
        directory = resolve(source.place, source.revision, (*ADAPTER_FILES, MANIFEST_FILE), _NEED, download)
        return _read_adapter(directory, (*ADAPTER_FILES, MANIFEST_FILE), is_ours=True)
    if (source.place / MANIFEST_FILE).exists():
        return read_content(source.place)
    return _read_adapter(source.place, ADAPTER_FILES, is_ours=False)


def _read_adapter(directory: Path, wanted: tuple[str, ...], is_ours: bool) -> dict[str, bytes]:
    """The hub's cache is made of links, which are followed there and nowhere else."""
    files: dict[str, bytes] = {}
    for path in sorted(directory.iterdir()):
        if path.name in wanted:
            files[path.name] = read_file(path.resolve() if is_ours else path, LENIENT.max_package_bytes)
        elif path.suffix in PICKLES:
            files[path.name] = b""
    if not files:
        raise PackageInvalid(directory.name, f"there is no {CONFIG_FILE} and no {MANIFEST_FILE}", "file_missing")
    return files
