"""What counts as a base, and what is fetched of one: against a small hub on loopback, in a process of its own."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from server.base import BASE_FILES, CONFIG_FILES, resolve_base
from server.settings import SettingsInvalid

REPOSITORY, COMMIT = "Qwen/Qwen3-0.6B", "ab" * 20
ROOT = Path(__file__).resolve().parents[3]
FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"first",
    "model-00002-of-00002.safetensors": b"second",
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "modeling_qwen3.py": b"code",
    "onnx/model.safetensors": b"another model",
    "README.md": b"words",
}


class Hub(BaseHTTPRequestHandler):
    """Lists the files of one commit, and serves them."""

    def do_GET(self) -> None:
        if self.path.startswith(f"/api/models/{REPOSITORY}/tree/{COMMIT}"):
            listing = [
                {"type": "file", "path": name, "size": len(data), "oid": name.encode().hex()}
                for name, data in FILES.items()
            ]
            self._answer(json.dumps(listing).encode(), "application/json")
        else:
            self._file()

    def do_HEAD(self) -> None:
        self._file()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Nothing: pytest shows what fails."""

    def _file(self) -> None:
        name = self.path.partition(f"/{REPOSITORY}/resolve/{COMMIT}/")[2]
        if name in FILES:
            self._answer(FILES[name], "application/octet-stream", name)
        else:
            self.send_error(404)

    def _answer(self, body: bytes, kind: str, name: str = "") -> None:
        self.send_response(200)
        for header, value in {"Content-Type": kind, "Content-Length": len(body), "X-Repo-Commit": COMMIT}.items():
            self.send_header(header, str(value))
        self.send_header("ETag", f'"{name.encode().hex()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def fetch(
    cache: Path, endpoint: str, patterns: str = "BASE_FILES", offline: bool = False, commit: str = COMMIT
) -> tuple[Path | None, str]:
    """The directory that a fresh process resolves the repository to, or None and the fault."""
    code = (
        "import sys; from pathlib import Path; from server import base; from server.settings import SettingsInvalid\n"
        f"try: print(base.resolve_base(Path({REPOSITORY!r}), {commit!r}, base.{patterns}))\n"
        "except SettingsInvalid as fault: sys.exit(str(fault))"
    )
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": str(int(offline))}
    hub |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | hub, capture_output=True, text=True, timeout=120
    )
    return (Path(done.stdout.strip()) if done.returncode == 0 else None), done.stderr


def test_a_base_from_the_hub_is_its_weights_and_its_tokenizer_and_nothing_that_runs(hub: str, tmp_path: Path) -> None:
    directory, fault = fetch(tmp_path, hub)
    assert directory is not None, fault
    found = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    refused = {"pytorch_model.bin", "modeling_qwen3.py", "onnx/model.safetensors", "README.md"}
    assert found == {name: data for name, data in FILES.items() if name not in refused}


def test_a_plan_fetches_the_config_alone(hub: str, tmp_path: Path) -> None:
    directory, fault = fetch(tmp_path, hub, "CONFIG_FILES")
    assert directory is not None, fault
    assert [path.name for path in directory.iterdir()] == ["config.json"]


def test_what_was_fetched_once_is_found_without_the_hub(hub: str, tmp_path: Path) -> None:
    online, _ = fetch(tmp_path, hub)
    offline, fault = fetch(tmp_path, "http://127.0.0.1:9", offline=True)
    assert online is not None and offline == online, fault


@pytest.mark.parametrize(("offline", "commit"), [(True, COMMIT), (False, "cd" * 20)])
def test_without_the_hub_or_the_commit_the_way_out_is_named(
    hub: str, tmp_path: Path, offline: bool, commit: str
) -> None:
    directory, fault = fetch(tmp_path, hub, offline=offline, commit=commit)
    assert directory is None
    assert f"cannot fetch {REPOSITORY} at {commit}" in fault and "--base" in fault
    assert "Traceback" not in fault


def refuse(repository: str, commit: str, files: tuple[str, ...]) -> Path:
    raise AssertionError(f"nothing is to be fetched, least of all {repository} at {commit}: {files}")


def test_a_directory_wins_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / REPOSITORY).mkdir(parents=True)
    assert resolve_base(Path(REPOSITORY), COMMIT, BASE_FILES, refuse) == Path(REPOSITORY)


@pytest.mark.parametrize("revision", ["main", "v1.0", "AB" * 20, "ab" * 19, "", "ab" * 20 + "\n"])
def test_a_revision_that_may_move_is_refused_with_the_way_to_a_commit(revision: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"not a commit of 40 .*`hf models info Qwen/Qwen3-0\.6B`"):
        resolve_base(Path(REPOSITORY), revision, BASE_FILES, refuse)


def test_a_repository_without_a_revision_is_refused_with_the_way_to_a_commit() -> None:
    with pytest.raises(SettingsInvalid, match=r"pin its commit with --revision .*`hf models info Qwen/Qwen3-0\.6B`"):
        resolve_base(Path(REPOSITORY), None, BASE_FILES, refuse)


@pytest.mark.parametrize("name", ["/srv/models/qwen", "nano", "../Qwen/Qwen3", "a/b/c", "Qwen/..", "Qwen/x y"])
def test_what_is_neither_a_directory_nor_a_repository_is_named(name: str) -> None:
    with pytest.raises(SettingsInvalid, match="there is no directory"):
        resolve_base(Path(name), COMMIT, BASE_FILES, refuse)


def test_the_download_is_asked_for_the_repository_the_commit_and_the_files(tmp_path: Path) -> None:
    asked: list[tuple[str, str, tuple[str, ...]]] = []

    def download(repository: str, commit: str, files: tuple[str, ...]) -> Path:
        asked.append((repository, commit, files))
        return tmp_path

    assert resolve_base(Path(REPOSITORY), COMMIT, CONFIG_FILES, download) == tmp_path
    assert asked == [(REPOSITORY, COMMIT, CONFIG_FILES)]


def test_the_hub_is_not_imported_before_it_is_used() -> None:
    code = "import server.base, server.plan, sys; sys.exit('huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == 0
