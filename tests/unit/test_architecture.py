"""The house rules that a program can check."""

import ast
import importlib
import importlib.metadata
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("server", "router", "engine", "training", "bench", "adapters_store", "grammars")
SOURCES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("room", ROOMS)
def test_our_bare_package_names_are_ours(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__file__ and Path(module.__file__).is_relative_to(ROOT)
    owners = set(importlib.metadata.packages_distributions().get(room, []))
    assert owners <= {"hotseat"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_module_says_what_it_is_and_stays_short(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module has no header"
    assert text.count("\n") <= 400, "the file is too long"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, f"{node.name} is too long"


def test_the_packages_of_pyproject_are_those_on_disk() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in SOURCES if path.name == "__init__.py"}
    assert listed == found


def test_the_readme_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"\n{room}/ " in readme for room in ROOMS)
