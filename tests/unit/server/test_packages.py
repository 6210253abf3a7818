"""Where the operator's packages come from: the hub at a commit, and what its cache looks like."""

from pathlib import Path

import pytest

from adapters_store.errors import PackageInvalid
from adapters_store.manifest import CONFIG_FILE, README_FILE, parse_manifest
from adapters_store.package import MANIFEST_FILE
from server.hub import HubFailed
from server.packages import ADAPTER_FILES, Source, import_source, policy_of
from server.settings import Settings, SettingsInvalid
from tests.unit.adapters_store.packages import lora_files

BASE = "sha256:" + "ab" * 32
COMMIT = "cd" * 20
REPOSITORY = Path("someone/Some-Adapter")


def hub_cache(root: Path, files: dict[str, bytes]) -> Path:
    """As the hub's client lays it out: links into a folder of blobs."""
    (root / "blobs").mkdir(parents=True)
    (root / "snapshot").mkdir()
    for number, (name, content) in enumerate(files.items()):
        (root / "blobs" / str(number)).write_bytes(content)
        (root / "snapshot" / name).symlink_to(Path("..") / "blobs" / str(number))
    return root / "snapshot"


def test_an_adapter_of_the_hub_is_its_pinned_commit_and_nothing_that_runs(tmp_path: Path) -> None:
    asked: list[tuple[str, str, tuple[str, ...]]] = []
    cache = hub_cache(tmp_path, {**lora_files(), README_FILE: b"# Words"})

    def download(repository: str, commit: str, files: tuple[str, ...]) -> Path:
        asked.append((repository, commit, files))
        return cache

    imported = import_source(Source(REPOSITORY, COMMIT), BASE, download)
    assert asked == [(REPOSITORY.as_posix(), COMMIT, (*ADAPTER_FILES, MANIFEST_FILE))]
    manifest = parse_manifest(imported.content[MANIFEST_FILE])
    assert (manifest.name, manifest.base) == ("some-adapter", BASE)
    assert manifest.source == f"someone/Some-Adapter at {COMMIT}"
    assert README_FILE in imported.content


def test_links_are_followed_in_the_hubs_cache_alone(tmp_path: Path) -> None:
    linked = hub_cache(tmp_path, lora_files())
    with pytest.raises(PackageInvalid) as refusal:
        import_source(Source(linked, name="tiny"), BASE)
    assert refusal.value.code == "file_unreadable"


def test_a_hub_that_does_not_answer_has_a_way_out() -> None:
    def download(repository: str, commit: str, files: tuple[str, ...]) -> Path:
        raise HubFailed(f"cannot fetch {repository} at {commit}: {files[0]}.")

    with pytest.raises(SettingsInvalid, match="copy the adapter's files to this machine and import their directory"):
        import_source(Source(REPOSITORY, COMMIT), BASE, download)


def test_a_repository_without_an_adapter_is_refused(tmp_path: Path) -> None:
    cache = hub_cache(tmp_path, {"config.json": b"{}"})
    with pytest.raises(PackageInvalid, match=f"there is no {CONFIG_FILE}"):
        import_source(Source(REPOSITORY, COMMIT), BASE, lambda *_: cache)


def test_requiring_signatures_without_a_trusted_key_is_a_mistake() -> None:
    with pytest.raises(SettingsInvalid, match="HOTSEAT_STORE__TRUSTED_KEYS"):
        policy_of(Settings(require_signature=True))
