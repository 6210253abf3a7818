"""Archives: what is taken out, and what is refused before anything is written."""

import io
import struct
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from adapters_store.archive import ArchiveLimits, read_archive
from adapters_store.errors import PackageInvalid
from tests.unit.adapters_store.archives import Entries, pairs, saved, special_tar, tar_of, zip_of

FILES = {"manifest.json": b"{}", "weights/adapter_model.safetensors": bytes(2000), "README.md": b"# Tiny"}
SMALL = ArchiveLimits(max_entries=4, max_bytes=4096)
Pack = Callable[[Entries], bytes]
PACKS: list[Pack] = [tar_of, lambda entries: tar_of(entries, "w:"), zip_of]


def refusal(path: Path, limits: ArchiveLimits = SMALL) -> PackageInvalid:
    with pytest.raises(PackageInvalid) as refused:
        read_archive(path, limits)
    assert refused.value.fault
    return refused.value


@pytest.mark.parametrize("pack", PACKS)
def test_files_come_out_as_they_went_in(tmp_path: Path, pack: Pack) -> None:
    assert read_archive(saved(tmp_path / "x.expert", pack(pairs(FILES))), SMALL) == FILES


def test_folders_and_a_leading_dot_do_not_count_as_files(tmp_path: Path) -> None:
    (tmp_path / "in" / "weights").mkdir(parents=True)
    (tmp_path / "in" / "weights" / "a").write_bytes(b"1")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in", arcname=".")
    assert read_archive(tmp_path / "x.tar.gz", SMALL) == {"weights/a": b"1"}


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\..\\b", "C:x", "./../x", "a/./b", "..", "a\nb", "a\x1b[2Jb"],
)
def test_a_path_that_leads_elsewhere_is_refused(tmp_path: Path, pack: Pack, name: str) -> None:
    refused = refusal(saved(tmp_path / "x.expert", pack([("ok", b""), (name, b"")])))
    assert refused.code == "archive_path"
    assert list(tmp_path.iterdir()) == [tmp_path / "x.expert"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    refused = refusal(saved(tmp_path / "x.expert", special_tar(kind)))
    assert refused.code == "archive_special"
    assert "'odd'" in refused.fault


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = zip_of([("odd", b"/etc/passwd")], mode=0o120777)
    assert refusal(saved(tmp_path / "x.zip", archive)).code == "archive_special"


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("twin", ["a", "A", "./a"])
def test_a_name_that_occurs_twice_is_refused(tmp_path: Path, pack: Pack, twin: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile's own about the name
        archive = pack([("a", b"1"), (twin, b"2")])
    assert refusal(saved(tmp_path / "x.expert", archive)).code == "archive_duplicate"


@pytest.mark.parametrize("pack", PACKS)
def test_more_entries_than_the_limit_are_refused(tmp_path: Path, pack: Pack) -> None:
    refused = refusal(saved(tmp_path / "x.expert", pack([(str(n), b"") for n in range(5)])))
    assert (refused.code, refused.fault) == ("archive_too_large", "it has more than 4 entries")


@pytest.mark.parametrize("pack", PACKS)
def test_what_declares_more_than_the_limit_is_refused(tmp_path: Path, pack: Pack) -> None:
    refused = refusal(saved(tmp_path / "x.expert", pack([("a", bytes(4000)), ("b", bytes(97))])))
    assert (refused.code, refused.fault) == ("archive_too_large", "b declares 97 bytes, 96 are left of the limit")


def test_a_bomb_that_declares_little_is_stopped_by_what_comes_out(tmp_path: Path) -> None:
    archive = bytearray(zip_of([("a", bytes(50_000_000))]))
    assert len(archive) < 60_000
    central = archive.index(b"PK\x01\x02")
    archive[central + 24 : central + 28] = struct.pack("<I", 100)
    archive[22:26] = struct.pack("<I", 100)
    assert refusal(saved(tmp_path / "x.zip", bytes(archive))).code in ("archive_too_large", "archive_invalid")


def test_a_tar_that_unpacks_without_end_is_stopped(tmp_path: Path) -> None:
    """A header of a header: its text would be read whole before the first entry is seen."""
    member = tarfile.TarInfo("a")
    member.pax_headers = {"comment": "x" * 20_000_000}
    with tarfile.open(tmp_path / "x.expert", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    assert (tmp_path / "x.expert").stat().st_size < 100_000
    assert refusal(tmp_path / "x.expert").code == "archive_too_large"


@pytest.mark.parametrize(
    "data", [b"", b"PK", b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b\x08\x00" + bytes(30), b"no archive"]
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    assert refusal(saved(tmp_path / "x.expert", data)).code == "archive_invalid"


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "gone").code == "file_unreadable"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_method_unpacks_without_bounds_is_refused(tmp_path: Path, method: int) -> None:
    """Half a kilobyte of bzip2 holds megabytes, which its decoder hands out in one piece."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("adapter_model.safetensors", bytes(1000))
    refused = refusal(saved(tmp_path / "x.expert", buffer.getvalue()))
    assert (refused.code, "compressed by method" in refused.fault) == ("archive_invalid", True)


def damaged(rng: Random, data: bytes) -> bytes:
    """Bytes changed, cut, doubled or put in; near the ends, where the headers are, more often than not."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 5)):
        at = (
            rng.randrange(len(changed))
            if rng.random() < 0.5
            else rng.choice([0, len(changed) - 200]) + rng.randrange(200)
        )
        at = min(max(at, 0), len(changed) - 1)
        action = rng.randrange(4)
        if action == 0:
            changed[at] = rng.randrange(256)
        elif action == 1:
            changed[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 2**31, 2**32 - 1]))
        elif action == 2:
            del changed[at : at + rng.randint(1, 30)]
        else:
            changed[at:at] = changed[at : at + rng.randint(1, 30)]
        if not changed:
            return b""
    return bytes(changed)


def fuzz(path: Path, seed: int, rounds: int) -> Counter[str]:
    rng = Random(seed)
    sources = [pack(pairs(FILES)) for pack in PACKS]
    outcomes: Counter[str] = Counter()
    for _ in range(rounds):
        path.write_bytes(damaged(rng, rng.choice(sources)))
        try:
            read_archive(path, SMALL)
        except PackageInvalid as refused:
            outcomes[refused.code] += 1
        else:
            outcomes["read"] += 1
    return outcomes


def test_damaged_archives_are_read_or_refused_cleanly(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path / "x.expert", seed=6, rounds=1500)
    assert outcomes["archive_invalid"] > 100
    assert outcomes["read"] > 10


@pytest.mark.slow
def test_ten_thousand_damaged_archives_are_read_or_refused_cleanly(tmp_path: Path) -> None:
    assert fuzz(tmp_path / "x.expert", seed=10_000, rounds=10_000).total() == 10_000
