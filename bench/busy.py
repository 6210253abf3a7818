"""What another process costs the engine: `python -m bench.busy [--turns 5]`.

Question: how many tokens per second do 32 streams of nano get alone, and beside a process that keeps one core busy for
half of the time or all of it? The three in turns; medians, lowest and highest.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bench.http import bare_rate
from server.services import build_services
from server.settings import Settings
from server.transport import settle

HALF = """
import time
while True:
    end = time.perf_counter() + 0.004
    while time.perf_counter() < end: pass
    time.sleep(0.004)
"""
NEIGHBOURS = {
    "alone": None,
    "beside a process that is busy by halves": HALF,
    "beside a busy process": "while True: pass",
}
TOKENS = 256
"""Of each answer."""


def main(turns: Annotated[int, typer.Option(help="Of the three, each with three runs.")] = 5) -> None:
    rates: dict[str, list[float]] = {name: [] for name in NEIGHBOURS}
    with TemporaryDirectory() as cache:
        services = build_services(Settings(cache_dir=Path(cache)))
        services.engine.start(lambda: None)
        settle()
        try:
            asyncio.run(bare_rate(services, TOKENS))
            for _ in range(turns):
                for name, code in NEIGHBOURS.items():
                    neighbour = None if code is None else subprocess.Popen([sys.executable, "-c", code])
                    time.sleep(0.1)
                    rates[name] += [asyncio.run(bare_rate(services, TOKENS)) for _ in range(3)]
                    if neighbour is not None:
                        neighbour.kill()
                        neighbour.wait()
        finally:
            services.engine.stop()
    for name, found in rates.items():
        share = statistics.median(found) / statistics.median(rates["alone"])
        print(f"{name}: {statistics.median(found):,.0f} ({min(found):,.0f} to {max(found):,.0f}) tokens/s, {share:.2f}")


if __name__ == "__main__":
    typer.run(main)
