"""What the engine benches print: one table for people and one JSON line for programs."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Figure:
    """Tokens per second of each run; no samples means that it was not run, and `note` says why."""

    name: str
    samples: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float | None:
        return median(self.samples) if self.samples else None


def ratio(figure: Figure, other: Figure) -> float | None:
    """How many times `other` goes into `figure`, by their medians."""
    if figure.median is None or not other.median:
        return None
    return figure.median / other.median


def table(title: str, sections: Sequence[Sequence[Figure]], caption: str = "") -> Table:
    drawn = Table(title=title, caption=caption or None, caption_justify="left")
    for heading in ("", "tokens/s", "lowest", "highest", "first / this", "note"):
        drawn.add_column(heading, justify="left" if heading in ("", "note") else "right")
    for figures in sections:
        for figure in figures:
            drawn.add_row(*cells(figure, figures[0]), end_section=figure is figures[-1])
    return drawn


def cells(figure: Figure, first: Figure) -> list[str]:
    if figure.median is None:
        return [figure.name, NOT_RUN, "", "", "", figure.note]
    shown = [f"{value:.1f}" for value in (figure.median, min(figure.samples), max(figure.samples))]
    times = ratio(first, figure)
    return [figure.name, *shown, "" if times is None else f"{times:.2f}", figure.note]


def record(bench: str, sections: Sequence[Sequence[Figure]], settings: Mapping[str, object]) -> str:
    """One JSON object in one line."""
    rows = [
        {
            "section": number,
            "name": figure.name,
            "median": figure.median,
            "samples": [round(sample, 2) for sample in figure.samples],
            "first_to_this": ratio(figures[0], figure),
            "note": figure.note,
        }
        for number, figures in enumerate(sections)
        for figure in figures
    ]
    return json.dumps({"bench": bench, "unit": "tokens/s", "settings": dict(settings), "rows": rows})


def show(
    bench: str, title: str, sections: Sequence[Sequence[Figure]], settings: Mapping[str, object], caption: str = ""
) -> None:
    """The ratio of a row is to the first row of its section."""
    Console(width=140).print(table(title, sections, caption))
    print(record(bench, sections, {**settings, "processor": processor()}))


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of them that at least this share does not exceed."""
    return sorted(values)[max(ceil(share * len(values)) - 1, 0)]


def processor() -> str:
    """As the kernel names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} CPUs" if names else platform.processor()
