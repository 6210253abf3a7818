"""Sizes in bytes as people write and read them: `24GiB`, `16 GB`, `512MiB`, plain bytes. Leaf module."""

import re

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt])(i)?b|b)?", re.I | re.A)
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def parse_size(text: str) -> int:
    """Raises ValueError naming the text."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is no size; write it as 24GiB, 16GB, 512MiB or in bytes")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()]) if unit else int(float(number))


def format_size(size: int) -> str:
    """`1.50 GiB`: of the largest unit that it has one of, sign included."""
    for unit, name in _UNITS:
        if abs(size) >= unit:
            return f"{size / unit:,.2f} {name}" if unit > 1 << 20 else f"{size / unit:,.1f} {name}"
    return f"{size} bytes"
