"""What lies on disk."""

from pathlib import Path

import pytest

from adapters_store.catalog import Catalog
from adapters_store.errors import PackageInvalid, StoreError
from adapters_store.manifest import WEIGHTS_FILE
from adapters_store.package import write_package
from tests.unit.adapters_store.packages import lora_files, lora_manifest, write_unchecked


def publish(root: Path, name: str, value: float = 1.0) -> None:
    write_package(root / name, lora_manifest(name), lora_files(value))


def test_a_root_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no directory of experts at"):
        Catalog(tmp_path / "gone")


def test_experts_are_listed_by_name(tmp_path: Path) -> None:
    for name in ("b", "a"):
        publish(tmp_path, name)
    listings = Catalog(tmp_path).scan()
    assert list(listings) == ["a", "b"]
    assert [listing.manifest.name for listing in listings.values() if listing.manifest] == ["a", "b"]


def test_plain_files_and_hidden_directories_are_no_packages(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("")
    (tmp_path / ".staging-1").mkdir()
    assert Catalog(tmp_path).scan() == {}


def test_a_broken_package_is_listed_with_its_fault(tmp_path: Path) -> None:
    publish(tmp_path, "good")
    (tmp_path / "empty").mkdir()
    (tmp_path / "Loud").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "good")
    listings = Catalog(tmp_path).scan()
    assert {name: listing.fault for name, listing in listings.items()} == {
        "Loud": "the name of its directory does not match [a-z0-9][a-z0-9._-]{0,63}",
        "empty": "there is no manifest.json",
        "good": None,
        "link": "the package is a link",
    }


@pytest.mark.parametrize("name", ["", ".", "..", "../secret", "a/b", "a\0b", "/etc", "UPPER", "x" * 65, "gone"])
def test_a_name_that_is_no_name_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    publish(tmp_path / "root", "a")
    publish(tmp_path, "secret")
    assert Catalog(tmp_path / "root").look_up(name) is None


def test_an_untouched_package_is_parsed_once(tmp_path: Path) -> None:
    publish(tmp_path, "a")
    catalog = Catalog(tmp_path)
    assert catalog.look_up("a") is catalog.look_up("a")


def test_new_changed_and_removed_packages_are_noticed(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    assert catalog.look_up("a") is None
    publish(tmp_path, "a")
    first = catalog.look_up("a")
    publish(tmp_path, "a", 2)
    second = catalog.look_up("a")
    assert first is not None and second is not None
    assert first.stamps != second.stamps
    (tmp_path / "a").rename(tmp_path / "b")
    assert catalog.look_up("a") is None


def test_a_condemned_package_stays_so_until_it_changes(tmp_path: Path) -> None:
    write_unchecked(tmp_path / "a", lora_manifest("a"), lora_files() | {WEIGHTS_FILE: b"x"})
    catalog = Catalog(tmp_path)
    listing = catalog.look_up("a")
    assert listing is not None and listing.manifest is not None
    catalog.condemn("a", listing, PackageInvalid("a", "no tensors", "tensor_missing"))
    condemned = catalog.look_up("a")
    assert condemned is not None and condemned.fault == "no tensors" and condemned.manifest is None
    publish(tmp_path, "a")
    repaired = catalog.look_up("a")
    assert repaired is not None and repaired.fault is None
