"""Where settings come from: one TOML file, the environment, the command line; later ones win.

A key is `section.name` in the file, `HOTSEAT_SECTION__NAME` in the environment, and what nobody knows is an error
with the nearest name that is known. Knows the names of the settings, not their meaning.
"""

import difflib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "HOTSEAT_"
CONFIG_VARIABLE = "HOTSEAT_CONFIG"
COMMAND_LINE = "command line"
# What Kubernetes sets in every container beside a Service that is called hotseat.
_SERVICE_LINK = re.compile(r"HOTSEAT_(SERVICE_(HOST|PORT\w*)|PORT(_\d+_(TCP|UDP)\w*)?)")


class SourceInvalid(Exception):
    """A file that cannot be read, or a key that nobody knows."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and where."""

    value: object
    origin: str


def gathered(
    sections: Mapping[str, str], file: Path | None, environment: Mapping[str, str], options: Mapping[str, object]
) -> dict[str, Given]:
    """Setting -> what was given for it last. `sections` is setting -> its section. Raises SourceInvalid."""
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    given = from_file(sections, file) if file is not None else {}
    given |= from_environment(sections, environment)
    given |= {name: Given(value, COMMAND_LINE) for name, value in options.items() if value is not None}
    return given


def from_file(sections: Mapping[str, str], path: Path) -> dict[str, Given]:
    """The keys of a TOML file."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SourceInvalid(f"cannot read the configuration in {path}: {error.strerror}") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise SourceInvalid(f"{path} is not TOML: {error}") from error
    known = {f"{section}.{name}": name for name, section in sections.items()}
    given = {}
    for section, keys in content.items():
        if not isinstance(keys, dict):
            raise SourceInvalid(f"{path}: {section} stands outside of a section{_hint(section, known)}")
        for key, value in keys.items():
            dotted = f"{section}.{key}"
            if dotted not in known:
                raise SourceInvalid(f"{path}: unknown key {dotted}{_hint(dotted, known)}")
            given[known[dotted]] = Given(value, str(path))
    return given


def from_environment(sections: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, Given]:
    """The variables that begin with HOTSEAT_."""
    known = {variable_of(section, name): name for name, section in sections.items()}
    given = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or _is_service_link(variable, value):
            continue
        if variable not in known:
            raise SourceInvalid(f"unknown variable {variable}{_hint(variable, known)}")
        given[known[variable]] = Given(value, variable)
    return given


def variable_of(section: str, name: str) -> str:
    return f"{PREFIX}{section}__{name}".upper()


def _is_service_link(variable: str, value: str) -> bool:
    """HOTSEAT_PORT alone might be an operator's; Kubernetes writes an address into it."""
    return bool(_SERVICE_LINK.fullmatch(variable)) and (variable != "HOTSEAT_PORT" or value.startswith("tcp://"))


def _hint(written: str, known: Mapping[str, str]) -> str:
    """The same setting elsewhere, else what is spelled most alike."""
    last = re.split(r"\.|__", written)[-1].removeprefix(PREFIX).lower()
    same = [key for key, name in known.items() if name == last]
    nearest = same or difflib.get_close_matches(written, known, n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]}?" if nearest else f"; there are {', '.join(sorted(known))}"
