"""From the operator's name of something to a directory: one on disk, or a pinned commit of a repository on the hub.

Knows no model and no adapter. The name comes from the operator alone, never from a client; only the files that are
named are fetched, nothing that could be code.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from server.settings import ServerError, SettingsInvalid

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")

Download = Callable[[str, str, tuple[str, ...]], Path]
"""(repository, commit, patterns of file names) -> the directory that holds them."""


class HubFailed(ServerError):
    """The hub did not give what it was asked for."""


@dataclass(frozen=True, slots=True)
class Need:
    """How to speak of what is wanted."""

    purpose: str
    """Ends `there is no directory x`."""
    options: str
    """Where its commit is named."""
    way_out: str
    """What to do without the hub."""


def resolve(place: Path, revision: str | None, files: tuple[str, ...], need: Need, download: Download | None) -> Path:
    """`place` itself where it is a directory, else `files` of that repository at `revision`.

    Raises SettingsInvalid for a name that is neither, a revision that is no commit, and a hub that does not give it.
    """
    if place.is_dir():
        return place
    repository = place.as_posix()
    if not _REPOSITORY.fullmatch(repository):
        raise SettingsInvalid(f"there is no directory {repository} {need.purpose}")
    finding = f"`hf models info {repository}` shows it as sha"
    if revision is None:
        raise SettingsInvalid(
            f"there is no directory {repository} {need.purpose}; to take it from the hub, pin its commit"
            f" with {need.options}: {finding}"
        )
    if not _COMMIT.fullmatch(revision):
        raise SettingsInvalid(
            f"revision {revision!r} is not a commit of 40 hexadecimal digits; a branch or a tag may change under a"
            f" running server: {finding}"
        )
    try:
        return (download or download_from_hub)(repository, revision, files)
    except HubFailed as fault:
        raise SettingsInvalid(f"{fault} {need.way_out}") from fault


def download_from_hub(repository: str, commit: str, files: tuple[str, ...]) -> Path:
    """Into the hub's own cache, where files that are there already are not fetched again."""
    # Imported here, because only what comes from the hub should cost it.
    from httpx2 import HTTPError
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=list(files), ignore_patterns=["*/*"]))
    except (HTTPError, OSError, ValueError, RuntimeError) as fault:
        reason = (str(fault) or type(fault).__name__).splitlines()[0].rstrip(".")
        raise HubFailed(f"cannot fetch {repository} at {commit} from the hub: {reason}.") from fault
