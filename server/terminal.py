"""How commands speak: tables and lines for people, JSON for programs, refusals without a traceback.

Knows no command and no room but their exceptions.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from adapters_store.errors import PackageInvalid, StoreError
from engine.errors import EngineError
from grammars.errors import GrammarError
from server.settings import ServerError, SettingsInvalid

_ENDLESS = 100_000
"""Columns where nobody looks at a screen."""
KNOWN_ERRORS = (StoreError, EngineError, GrammarError, ServerError)
_T = TypeVar("_T")


class Out:
    """Where a command puts what it found."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._stderr = Console(stderr=True)

    def tell(self, data: object, view: Callable[[], Table | str]) -> None:
        """`data` for programs, else `view` for people."""
        if self._as_json:
            sys.stdout.write(json.dumps(data, indent=2) + "\n")
        else:
            shown = view()
            stdout_console().print(plain(shown) if isinstance(shown, str) else shown, markup=False, highlight=False)

    def working(self, what: str) -> AbstractContextManager[object]:
        """A sign of life for people who wait."""
        return nullcontext() if self._as_json else self._stderr.status(what)

    def each(self, items: Iterable[_T], what: str) -> Iterable[_T]:
        """The items, with a bar that shows how many are done."""
        items = tuple(items)
        is_quiet = self._as_json or len(items) < 2
        return track(items, what, console=self._stderr, transient=True, disable=is_quiet)

    def refuse(self, error: Exception) -> None:
        """Why nothing came of it."""
        if self._as_json:
            self.tell({"error": {"code": code_of(error), "message": str(error)}}, lambda: "")
        else:
            print_error(str(error))


@contextmanager
def answering(as_json: bool) -> Iterator[Out]:
    """The command's work. A refusal ends with 1, settings that cannot be with 2."""
    out = Out(as_json)
    try:
        yield out
    except KNOWN_ERRORS as error:
        out.refuse(error)
        raise typer.Exit(2 if isinstance(error, SettingsInvalid) else 1) from None
    except OSError as error:  # a path of the operator's that cannot be read or written
        out.refuse(ServerError(f"{error.filename}: {error.strerror}"))
        raise typer.Exit(1) from None


def code_of(error: Exception) -> str:
    """A package's guards have codes of their own; all else is called by its class: ExpertNotFound, expert_not_found."""
    if isinstance(error, PackageInvalid):
        return error.code
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()


def stdout_console() -> Console:
    """For tables: as wide as the screen, and as wide as their values where they go to a file or a program."""
    return Console() if Console().is_terminal else Console(width=_ENDLESS)


def print_error(message: str) -> None:
    Console(stderr=True).print(plain(message), style="red", markup=False, highlight=False)


def plain(text: str) -> str:
    """Without what would move the cursor or colour the terminal: a package says what its author likes."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)
