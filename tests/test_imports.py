"""Imports between the rooms of the house run one way, also those inside functions and for type checkers."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import skiplight

PACKAGE = Path(skiplight.__file__).parent

ROOMS = (
    "errors",
    "files",
    "process",
    "compiled",
    "registry",
    "config",
    "corpus",
    "sampling",
    "objectives",
    "engines",
    "data",
    "vectors",
    "evaluation",
    "distributed",
    "training",
    "experiments",
    "report",
    "",  # the package itself: the public names
    "cli",
)
"""A module imports from its own room and from those before it."""

LIBRARY = ("corpus", "sampling", "objectives", "engines", "distributed")
"""Rooms that others may use as a library: they take plain arguments and know no options."""


def modules() -> dict[str, Path]:
    """Return every module's dotted name, without `skiplight.`, and its file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> Iterator[tuple[str, int]]:
    """Yield every module of the package that a file imports, and the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("skiplight.") in known else str(node.module) for name in full]
        for name in names:
            if name == "skiplight" or name.startswith("skiplight."):
                yield name.removeprefix("skiplight").removeprefix("."), node.lineno


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(module) for module in modules()} == set(ROOMS)


def test_no_room_imports_one_behind_it() -> None:
    known = modules()
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {room(module)} -> {other}"
        for module, path in known.items()
        for other, line in imported(path, known)
        if ROOMS.index(room(other)) > ROOMS.index(room(module))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    graph = {module: {other for other, _ in imported(path, known)} - {module} for module, path in known.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_others_use_as_a_library_knows_no_options() -> None:
    known = modules()
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for module, path in known.items()
        if room(module) in LIBRARY
        for other, line in imported(path, known)
        if room(other) == "config"
    ]
    assert not wrong, "\n".join(wrong)
