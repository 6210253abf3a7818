"""What the router learns from: prompts by the experts that they need.

    python -m training.router_data OUT.jsonl [--clinc data_full.json] [--sentences FILE] [--extra rows.jsonl]

Owns the banks in `training/prompts`: frames with slots, what fills them, and prompts that no frame makes, most of them
in `written`. One frame in twelve goes to the held split with all that it makes, and so does one written prompt in
twelve, so that calibration meets wordings that training never saw. Writes rows {"text", "experts", "split", "is_own"};
no expert means the base. Knows no router.
"""

import json
import re
import zlib
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from training.router_slots import GENERATED_SHARE, GENERATORS, conversion
from training.tasks import TASKS
from training.words import Words

Split = Literal["train", "held", "calibrate"]
BANKS = Path(__file__).parent / "prompts"
WRITTEN = BANKS / "written"
HELD_ONE_IN = 12
PER_FRAME = 14
PER_FRAME_NONE = 9
PER_TASK = 150
PER_WRITTEN = 6
"""How often a prompt that was written by hand is there in another's typing, beside itself."""
CLINC_OF_EXPERTS = frozenset({"measurement_conversion", "translate", "date", "spelling"})
"""Its intents that lie too near to an expert to be called foreign to all."""

_SLOT = re.compile(r"\{(\w+)\}")
_CONVERSION = frozenset({"q", "a", "b", "down", "up", "qs", "unit"})
# Slots that any sentence may fill, and how often one of other people's does.
_FREE_TEXT = {"en": 0.5, "casual": 0.3, "text": 0.3, "ticket": 0.2}
_ABOUT_ANYTHING = frozenset({"gq", "sq", "text", "casual", "ticket", "en", "flat"})
_FRAMES = ("frames", "whole", "none")
_PREFIXES = ("hi, ", "hey ", "hello! ", "please ", "pls ", "quick question: ", "ok so ", "can you help? ", "Hi team,\n")
_SUFFIXES = (
    " thanks",
    " thx",
    " please",
    " asap",
    "!!",
    " thank you",
    " cheers",
    "\nthanks!",
    " :)",
    " pls",
    "?",
    " ...",
)


@dataclass(frozen=True, slots=True)
class Row:
    text: str
    experts: tuple[str, ...]
    split: Split
    is_own: bool = True
    """False where it holds a sentence of somebody else's: to learn from, not to be kept in a trained router."""


def load_banks(folder: Path = BANKS) -> dict[str, dict[str, list[str]]]:
    """Bank name -> section -> lines, `\\n` in a line being a line break."""
    banks = {}
    for path in sorted(folder.glob("*.txt")):
        sections: dict[str, list[str]] = {}
        for line in path.read_text().splitlines():
            if re.fullmatch(r"\[[\w -]+\]", line):
                current = sections.setdefault(line[1:-1], [])
            elif line.strip():
                current.append(line.replace("\\n", "\n"))
        banks[path.stem] = sections
    return banks


class Drawer:
    """Fills frames. A slot is filled from the banks' lists, from code, or from what another expert is asked."""

    def __init__(
        self, banks: Mapping[str, Mapping[str, list[str]]], rng: Random, sentences: Sequence[str] = ()
    ) -> None:
        self._rng = rng
        self._sentences = list(sentences)
        self._is_own = True
        words = {word.lower() for line in self._sentences for word in re.findall(r"[A-Za-z]{4,}", line)}
        self._vocabulary = sorted(words) or ["something"]
        frames = {*_FRAMES, *(section for section in banks["multi"])}
        self._lists = {n: lines for bank in banks.values() for n, lines in bank.items() if n not in frames}
        self._strangers = _strangers(banks)

    def row(self, frame: str, experts: tuple[str, ...], split: Split) -> Row:
        """The frame with its slots filled."""
        amounts = conversion(self._rng)
        self._is_own = True
        text = _SLOT.sub(lambda match: self._slot(match[1], amounts), frame)
        return Row(text, experts, split, self._is_own)

    def _slot(self, name: str, amounts: Mapping[str, str]) -> str:
        rng = self._rng
        if name in _CONVERSION:
            return amounts[name]
        if name in _FREE_TEXT:
            kind = rng.random()
            if kind < 0.12:
                return rng.choice(self._strangers)
            if kind < 0.12 + _FREE_TEXT[name] and self._sentences:
                self._is_own = False
                return rng.choice(self._sentences)
        if rng.random() < GENERATED_SHARE.get(name, 0.0):
            return GENERATORS[name](rng)
        lines = self._lists.get(name)
        if not lines:
            return f"{{{name}}}"
        line = rng.choice(lines)
        return self._about_something_else(line) if name in _ABOUT_ANYTHING and rng.random() < 0.6 else line

    def _about_something_else(self, line: str) -> str:
        """With other long words in some places: hardly English, but its subject is nobody's cue."""
        return re.sub(
            r"(?<![\w'])[A-Za-z]{4,}(?![\w'])",
            lambda match: self._rng.choice(self._vocabulary) if self._rng.random() < 0.4 else match[0],
            line,
        )


def _strangers(banks: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    """Prompts that are quoted in others: what a text is about must not decide who is asked."""
    whole = [line for bank in banks.values() for line in bank.get("whole", ())]
    return whole + [line for line in banks["none"]["frames"] if len(line) < 90]


def draw_rows(rng: Random, sentences: Sequence[str] = ()) -> Iterator[Row]:
    banks = load_banks()
    drawer = Drawer(banks, rng, sentences)
    for name, bank in banks.items():
        if name == "multi":
            for experts, frames in bank.items():
                yield from _of_frames(drawer, frames, tuple(experts.split()), PER_FRAME, rng)
            continue
        mine = () if name == "none" else (name,)
        yield from _of_frames(drawer, bank["frames"], mine, PER_FRAME if mine else 1, rng)
        yield from _of_frames(drawer, bank.get("whole", []), mine, 1, rng, is_whole=True)
        yield from _of_frames(drawer, bank.get("none", []), (), PER_FRAME_NONE, rng)
    for name, draw in TASKS.items():
        words = Words(rng)
        for number in range(PER_TASK):
            yield Row(draw(words).prompt, (name,), "held" if number % HELD_ONE_IN == 0 else "train")


def _of_frames(
    drawer: Drawer,
    frames: list[str],
    experts: tuple[str, ...],
    count: int,
    rng: Random,
    is_whole: bool = False,
) -> Iterator[Row]:
    for frame in frames:
        split: Split = "held" if zlib.crc32(frame.encode()) % HELD_ONE_IN == 0 else "train"
        is_fixed = is_whole or not _SLOT.search(frame)

        def row(frame: str = frame, split: Split = split) -> Row:
            return Row(frame, experts, split) if is_whole else drawer.row(frame, experts, split)

        yield from (row() for _ in range(1 if is_fixed else count))
        # What has no slots is varied by hand's slips alone.
        for one in (row() for _ in range(4 if is_fixed else count // 2)):
            yield replace(one, text=varied(one.text, rng))


def written_rows(rng: Random, folder: Path = WRITTEN) -> Iterator[Row]:
    """Lines {"text", "expert", "also"?}, one file an author."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            experts = (row["expert"], *row.get("also", ())) if row["expert"] else ()
            split: Split = "held" if zlib.crc32(row["text"].encode()) % HELD_ONE_IN == 0 else "train"
            yield Row(row["text"], experts, split)
            yield from (Row(varied(row["text"], rng), experts, split) for _ in range(PER_WRITTEN))


def varied(text: str, rng: Random) -> str:
    """As somebody else would have typed it: in another case, politer, with slips."""
    kind = rng.random()
    if kind < 0.15:
        text = text.upper() if rng.random() < 0.3 else text.capitalize() if rng.random() < 0.3 else text.lower()
    if rng.random() < 0.3:
        text = rng.choice(_PREFIXES) + text
    if rng.random() < 0.3:
        text += rng.choice(_SUFFIXES)
    for _ in range(rng.choice((0, 0, 1, 2, 3, 5))):
        text = mistyped(text, rng)
    return text


def mistyped(text: str, rng: Random) -> str:
    """With one letter of one longer word missing, doubled, swapped or replaced."""
    words = [match.span() for match in re.finditer(r"[A-Za-zÀ-ÿ]{4,}", text)]
    if not words:
        return text
    start, end = rng.choice(words)
    place = rng.randrange(start + 1, end - 1)
    kind = rng.random()
    if kind < 0.35:
        return text[:place] + text[place + 1 :]
    if kind < 0.7:
        return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    return (
        text[:place]
        + (text[place] if kind < 0.85 else rng.choice("abcdefghijklmnoprstuvw"))
        + text[place + (kind >= 0.85) :]
    )


def clinc_rows(path: Path, rng: Random, count: int) -> Iterator[Row]:
    """Questions of CLINC150's train split: none of them is for an expert."""
    data = json.loads(path.read_text())
    rows = [text for text, intent in data["train"] if intent not in CLINC_OF_EXPERTS]
    rows = rng.sample(rows, count) + [text for text, _ in data["oos_train"]]
    yield from (Row(text, (), "held" if n % HELD_ONE_IN == 0 else "train", False) for n, text in enumerate(rows))


def extra_rows(path: Path) -> Iterator[Row]:
    """Rows {"text", "expert"} that were written by others: to calibrate on."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        yield Row(row["text"], tuple(filter(None, (row["expert"],))), "calibrate")


def main() -> None:
    parser = ArgumentParser(description="Write the rows that the router is trained and calibrated on.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--clinc", type=Path, help="data_full.json of CLINC150")
    parser.add_argument("--sentences", type=Path, help="English sentences, one a line, to be quoted in prompts")
    parser.add_argument("--extra", type=Path, help="labelled rows to calibrate on")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    rng = Random(options.seed)
    sentences: list[str] = []
    if options.sentences:
        sentences += options.sentences.read_text().splitlines()
    if options.clinc:
        sentences += [text for text, _ in json.loads(options.clinc.read_text())["train"]]
    rows = [*draw_rows(rng, sentences), *written_rows(rng)]
    if options.clinc:
        rows += clinc_rows(options.clinc, rng, 6000)
    if options.extra:
        rows += extra_rows(options.extra)
    unique = {row.text: row for row in rows if row.text.strip()}
    with options.out.open("w") as file:
        for row in unique.values():
            line = {"text": row.text, "experts": row.experts, "split": row.split, "is_own": row.is_own}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(f"{len(unique)} rows in {options.out}")


if __name__ == "__main__":
    main()
