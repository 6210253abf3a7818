"""From the operator's name of a base to a directory: one on disk, or a pinned commit of a repository on the hub.

Knows no model. The name comes from the operator alone, never from a client; nothing that could be code is fetched.
"""

import re
from collections.abc import Callable
from pathlib import Path

from server.settings import SettingsInvalid

CONFIG_FILES = ("config.json", "generation_config.json")
BASE_FILES = (
    *CONFIG_FILES,
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")

Download = Callable[[str, str, tuple[str, ...]], Path]
"""(repository, commit, patterns of file names) -> the directory that holds them."""


def resolve_base(base: Path, revision: str | None, files: tuple[str, ...], download: Download | None = None) -> Path:
    """The directory of the base: `base` itself where it is one, else `files` of that repository at `revision`.

    Raises SettingsInvalid for a name that is neither, a revision that is no commit, and a hub that does not give it.
    """
    if base.is_dir():
        return base
    repository = base.as_posix()
    if not _REPOSITORY.fullmatch(repository):
        raise SettingsInvalid(f"there is no directory {repository} to load the base model from")
    finding = f"`hf models info {repository}` shows it as sha"
    if revision is None:
        raise SettingsInvalid(
            f"there is no directory {repository} to load the base model from; to take it from the hub, pin its commit"
            f" with --revision (or HOTSEAT_MODEL__REVISION): {finding}"
        )
    if not _COMMIT.fullmatch(revision):
        raise SettingsInvalid(
            f"revision {revision!r} is not a commit of 40 hexadecimal digits; a branch or a tag may change under a"
            f" running server: {finding}"
        )
    return (download or download_from_hub)(repository, revision, files)


def download_from_hub(repository: str, commit: str, files: tuple[str, ...]) -> Path:
    """Into the hub's own cache, where files that are there already are not fetched again."""
    # Imported here, because only a base from the hub should cost it.
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=list(files), ignore_patterns=["*/*"]))
    except (HTTPError, OSError, ValueError, RuntimeError) as fault:
        reason = (str(fault) or type(fault).__name__).splitlines()[0]
        raise SettingsInvalid(
            f"cannot fetch {repository} at {commit} from the hub: {reason.rstrip('.')}."
            " Without the hub, copy the model's files to this machine and give their directory with --base."
        ) from fault
