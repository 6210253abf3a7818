"""Reading what somebody else wrote, and replacing it in one piece."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from adapters_store.errors import PackageInvalid
from adapters_store.files import list_files, locked, read_file, replace_directory, restore_directories


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_the_stamps_of_an_untouched_directory_are_equal(tmp_path: Path) -> None:
    package = folder(tmp_path / "a", "old")
    assert list_files(package) == list_files(package)
    assert [stamp.name for stamp in list_files(package)] == ["file"]


def test_a_rewritten_file_has_another_stamp(tmp_path: Path) -> None:
    package = folder(tmp_path / "a", "old")
    before = list_files(package)
    os.utime(package / "file", ns=(1, 1))
    assert list_files(package) != before


ODD_ENTRIES: list[tuple[Callable[[Path], None], str]] = [
    (lambda path: path.symlink_to("/etc/passwd"), "a link"),
    (lambda path: path.symlink_to("missing"), "a link"),
    (lambda path: path.mkdir(), "a folder"),
    (lambda path: os.mkfifo(path), "a device or pipe"),
]


@pytest.mark.parametrize(("make", "what"), ODD_ENTRIES)
def test_links_folders_and_pipes_are_refused_by_name(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    package = folder(tmp_path / "a", "")
    make(package / "odd")
    with pytest.raises(PackageInvalid, match=f"odd is {what}, not a plain file"):
        list_files(package)


def test_a_package_that_is_a_link_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "real", "")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(PackageInvalid, match="the package is a link"):
        list_files(tmp_path / "link")


def test_a_directory_that_is_gone_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(PackageInvalid, match="cannot be listed: No such file"):
        list_files(tmp_path / "gone")


def test_a_file_is_read_up_to_its_limit_and_refused_beyond(tmp_path: Path) -> None:
    package = folder(tmp_path / "a", "12345")
    assert read_file(package / "file", 5) == b"12345"
    with pytest.raises(PackageInvalid, match="file has 5 bytes, not 4 at most"):
        read_file(package / "file", 4)


def test_a_file_that_became_a_link_or_a_pipe_is_not_followed(tmp_path: Path) -> None:
    package = folder(tmp_path / "a", "")
    (package / "link").symlink_to("/etc/passwd")
    os.mkfifo(package / "pipe")
    with pytest.raises(PackageInvalid, match="link cannot be read"):
        read_file(package / "link", 10_000)
    with pytest.raises(PackageInvalid, match="pipe is a device or pipe, not a plain file"):
        read_file(package / "pipe", 10_000)


def test_readers_share_and_a_writer_waits_for_them(tmp_path: Path) -> None:
    wrote = Event()

    def write() -> None:
        with locked(tmp_path, exclusive=True):
            wrote.set()

    with locked(tmp_path, exclusive=False), locked(tmp_path, exclusive=False):
        writer = Thread(target=write)
        writer.start()
        assert not wrote.wait(0.05)
    writer.join(5)
    assert wrote.is_set()


def test_a_directory_takes_the_place_of_another(tmp_path: Path) -> None:
    target, staged = folder(tmp_path / "a", "old"), folder(tmp_path / "new", "new")
    replace_directory(target, staged)
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_directory_takes_a_free_place(tmp_path: Path) -> None:
    replace_directory(tmp_path / "a", folder(tmp_path / "new", "new"))
    assert (tmp_path / "a" / "file").read_text() == "new"


def test_if_the_new_one_cannot_be_moved_the_old_one_stays(tmp_path: Path) -> None:
    target = folder(tmp_path / "a", "old")
    with pytest.raises(FileNotFoundError):
        replace_directory(target, tmp_path / "gone")
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


KILLED_BETWEEN_ITS_RENAMES = """
import os, pathlib, sys
from adapters_store.files import replace_directory
root = pathlib.Path(sys.argv[1])
rename = pathlib.Path.rename
def rename_once(self, target):
    rename(self, target)
    os._exit(9)
pathlib.Path.rename = rename_once
replace_directory(root / "a", root / "new")
"""


def test_a_writer_killed_between_its_two_renames_is_undone(tmp_path: Path) -> None:
    target = folder(tmp_path / "a", "old")
    folder(tmp_path / "new", "new")
    command = [sys.executable, "-c", KILLED_BETWEEN_ITS_RENAMES, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    assert not target.exists()
    restore_directories(tmp_path)
    assert (target / "file").read_text() == "old"


def test_what_was_moved_away_by_a_finished_writer_is_rubbish(tmp_path: Path) -> None:
    target = folder(tmp_path / "a", "new")
    folder(tmp_path / ".a.previous", "old")
    restore_directories(tmp_path)
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
