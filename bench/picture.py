"""The quality table as a picture: bars for the expert, for other wording and for the best other expert. Plain SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, TOP, ROW, LEFT, SPAN = 900, 74, 44, 190, 330
COLUMNS = {"base": 560, "expert": 620, "+ grammar": 708, "rephrased": 795, "best other": 885}
GREY = "#4b5563"
COLORS = {"expert": "#1d4ed8", "rephrased": "#60a5fa", "best other": "#9ca3af"}


@dataclass(frozen=True, slots=True)
class Line:
    """One task: its figures by the names of COLUMNS, shares in 0..1."""

    task: str
    kind: str
    figures: Mapping[str, float]


def draw(lines: Sequence[Line], title: str, path: Path) -> None:
    height = TOP + ROW * len(lines) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(12, 26, title, weight="bold", size=15),
        *(text(x, TOP - 16, name, anchor="end", color=COLORS.get(name, GREY)) for name, x in COLUMNS.items()),
        text(12, TOP - 16, "task, adapter", color=GREY),
        *(draw_line(line, TOP + ROW * index) for index, line in enumerate(lines)),
        "</svg>",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def draw_line(line: Line, y: int) -> str:
    bars = zip(COLORS.items(), ((y, 14), (y + 15, 6), (y + 22, 6)), strict=True)
    return "\n".join(
        [
            text(12, y + 12, line.task, weight="bold"),
            text(12, y + 27, line.kind.replace("+soft_prompt", " + soft prompt"), color=GREY),
            bar(y, 28, 1.0, "#f3f4f6"),
            *(bar(top, thickness, line.figures[name], color) for (name, color), (top, thickness) in bars),
            *(text(x, y + 18, f"{100 * line.figures[name]:.1f}", anchor="end") for name, x in COLUMNS.items()),
        ]
    )


def bar(y: int, height: int, share: float, color: str) -> str:
    return f'<rect x="{LEFT}" y="{y}" width="{SPAN * share:.1f}" height="{height}" fill="{color}"/>'


def text(
    x: int, y: int, content: str, anchor: str = "start", color: str = "#111827", weight: str = "normal", size: int = 13
) -> str:
    style = f'text-anchor="{anchor}" fill="{color}" font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(content)}</text>'
