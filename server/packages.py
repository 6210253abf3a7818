"""What the operator's commands need of packages: the policy of the settings, a base's fingerprint, sources to take from.

Paths come from the operator alone, never from a client. Knows the store's formats and no HTTP.
"""

from pathlib import Path

from adapters_store.archive import read_archive
from adapters_store.errors import PackageInvalid
from adapters_store.files import read_file
from adapters_store.fingerprint import base_fingerprint
from adapters_store.importing import PICKLES
from adapters_store.installer import read_content
from adapters_store.manifest import CONFIG_FILE, GRAMMAR_FILE, README_FILE, SOFT_PROMPT_FILE, WEIGHTS_FILE
from adapters_store.policy import LENIENT, Policy
from adapters_store.signature import read_trusted_keys
from engine.config import EngineConfig
from server.base import BASE_FILES, resolve_base
from server.settings import Settings, SettingsInvalid

ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE, SOFT_PROMPT_FILE, GRAMMAR_FILE, README_FILE)


def policy_of(settings: Settings, base: str | None = None, max_rank: int | None = None) -> Policy:
    """Raises SettingsInvalid where signatures are required and nobody is trusted, and KeyInvalid."""
    if settings.require_signature and settings.trusted_keys is None:
        raise SettingsInvalid(
            "require_signature is on and no key is trusted: name a .pub file, or a directory of them, with"
            " HOTSEAT_TRUSTED_KEYS"
        )
    keys = frozenset[bytes]() if settings.trusted_keys is None else read_trusted_keys(settings.trusted_keys)
    return Policy(max_rank=max_rank, base=base, require_signature=settings.require_signature, trusted_keys=keys)


def installing_policy(settings: Settings, any_base: bool) -> Policy:
    """What may come in: what fits a slot and, unless any base will do, was made for the base of the settings."""
    return policy_of(settings, None if any_base else fingerprint_of(settings), EngineConfig.max_rank)


def fingerprint_of(settings: Settings) -> str:
    """Reads all weights of the base; raises SettingsInvalid or BaseModelInvalid."""
    return base_fingerprint(resolve_base(settings.base, settings.revision, BASE_FILES))


def read_source(source: Path, revision: str | None = None) -> dict[str, bytes]:
    """The files of an archive, a package, a bare PEFT directory, or a repository of the hub at a commit.

    Of an adapter's directory and of a repository only what a package may hold is read; of pickles only the names, which
    is enough to refuse them.
    """
    if source.is_file():
        return read_archive(source)
    if not source.is_dir():
        return _read_adapter(resolve_base(source, revision, (*ADAPTER_FILES, "manifest.json")), is_ours=True)
    if (source / "manifest.json").exists():
        return read_content(source)
    return _read_adapter(source, is_ours=False)


def _read_adapter(directory: Path, is_ours: bool) -> dict[str, bytes]:
    """The hub's cache is made of links, which are followed there and nowhere else."""
    files: dict[str, bytes] = {}
    for path in sorted(directory.iterdir()):
        if path.name in ADAPTER_FILES:
            files[path.name] = read_file(path.resolve() if is_ours else path, LENIENT.max_package_bytes)
        elif path.suffix in PICKLES:
            files[path.name] = b""
    if not files:
        raise PackageInvalid(directory.name, f"there is no {CONFIG_FILE} and no manifest.json", "file_missing")
    return files
