"""`python -m tests.clients PYTHON...`: serve the embedded base and run the clients' checks with these interpreters.

A check whose client an interpreter lacks is skipped there, so clients that cannot live together have one each.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from server.services import build_services
from server.settings import Settings
from tests.live import live_server

HERE = Path(__file__).parent
OPTIONS = (
    "-q",
    "-rs",
    "-W",
    "ignore",
    "-c",
    os.devnull,
    "--rootdir",
    str(HERE),
    "--confcutdir",
    str(HERE),
    "-p",
    "no:cacheprovider",
)


def main(pythons: list[str]) -> int:
    with tempfile.TemporaryDirectory() as cache, live_server(build_services(Settings(cache_dir=Path(cache)))) as port:
        environment = {**os.environ, "HOTSEAT_URL": f"http://127.0.0.1:{port}", "LLM_USER_PATH": cache}
        files = sorted(str(path) for path in HERE.glob("client_*.py"))
        runs = [subprocess.run([python, "-m", "pytest", *OPTIONS, *files], env=environment) for python in pythons]
    return max(run.returncode for run in runs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
