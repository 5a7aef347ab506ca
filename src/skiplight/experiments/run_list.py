"""Lists the runs in a folder, with what each trained on, how it ended and what it scored."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from skiplight.errors import SkiplightError
from skiplight.evaluation.suite import evaluation_metrics
from skiplight.experiments.queue import read_result
from skiplight.files import disk_usage
from skiplight.training.run_folder import RunFolder

DEPTH = 3
"""Levels of folders that are searched: runs, the runs of a study, and those of a comparison."""


class ListedRun(NamedTuple):
    """A run.

    Attributes:
        name: its path within the folder.
        text: the source of its text, with the path or name that tells texts of a source apart.
        engine: the engine that trained it; empty before its end.
        scores: metrics of its evaluations, by name.
        began: when its folder was made.
        size: bytes of its files.
        state: finished, training, stopped, failed, diverged, pruned or paused; or what is wrong with its files.
    """

    name: str
    text: str
    engine: str
    scores: dict[str, float]
    began: datetime.datetime
    size: int
    state: str


def list_runs(folder: Path) -> list[ListedRun]:
    """Return the runs in a folder, up to three levels deep, the newest first.

    Raises:
        NotADirectoryError, FileNotFoundError: there is no such folder.
    """
    found = [_describe(folder, RunFolder(path)) for path in _find(folder, DEPTH)]
    return sorted(found, key=lambda run: run.began, reverse=True)


def _find(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.yaml").is_file() and (folder / "environment.json").is_file():
        yield folder
    elif depth:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                yield from _find(path, depth - 1)


def _describe(folder: Path, run: RunFolder) -> ListedRun:
    text, engine, scores, state = "", "", {}, _state_of(run)
    try:
        data = run.config().data
        named = getattr(data, "path", None) or getattr(data, "name", None)
        text = f"{data.source} {named}" if named else data.source
        if run.summary.exists():
            summary = run.read_summary()
            engine, scores = summary["engine"], evaluation_metrics(summary["evaluation"])
    except SkiplightError as error:
        state = str(error)
    began = datetime.datetime.fromtimestamp(run.config_file.stat().st_mtime)
    name = run.path.relative_to(folder).as_posix()
    return ListedRun(folder.name if name == "." else name, text, engine, scores, began, disk_usage(run.path), state)


def _state_of(run: RunFolder) -> str:
    if run.summary.exists():
        return "finished"
    if run.is_in_training:
        return "training"
    if (result := read_result(run.path)) is not None:
        return result.state
    return "failed" if any((run.path / "errors").glob("*.txt")) else "stopped"


def as_json(run: ListedRun) -> dict[str, Any]:
    """Return a run as what JSON has."""
    return run._asdict() | {"began": run.began.isoformat(timespec="seconds")}
