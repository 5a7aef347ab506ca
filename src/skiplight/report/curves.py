"""The curves of runs, thinned for a page, and the page that overlays those of any runs."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skiplight.errors import ConfigError
from skiplight.experiments.metrics import HELDOUT_PARTS, read_metrics
from skiplight.report.html import render_page, write_page
from skiplight.report.settings import OWN, list_settings
from skiplight.training.run_folder import RunFolder

AXES = ("tokens", "seconds", "pairs")

POINTS = 80
"""The most points of a curve on a page of several runs; a point is the mean of neighbouring lines."""


def run_curves(run: RunFolder) -> dict[str, list[list[Any]]]:
    """Return the curves of a run by metric: loss and evaluations, each as columns: tokens, seconds, pairs, values.

    Raises:
        RunError: metrics.jsonl cannot be read.
    """
    lines = run.read_metrics()
    names = dict.fromkeys(name for line in lines for name in line)
    shown = [name for name in names if name == "train/loss" or name.startswith(("evaluation/", *HELDOUT_PARTS))]
    curves: dict[str, list[list[Any]]] = {}
    for name in shown:
        own = [line for line in lines if isinstance(line.get(name), int | float)]
        size = -(-len(own) // POINTS)
        groups = [own[at : at + size] for at in range(0, len(own), size or 1)]
        columns = [[group[-1].get(axis) for group in groups] for axis in AXES]
        curves[name] = [*columns, [statistics.fmean(line[name] for line in group) for group in groups]]
    return curves


def write_runs_page(folders: Sequence[Path], path: Path) -> Path:
    """Write the page that overlays the curves of some runs, finished or not, and return its path.

    Raises:
        ConfigError: a run is given twice.
        RunError: a folder is not a run, or is damaged.
        UnwritableError: the page cannot be written.
    """
    runs = [RunFolder(folder) for folder in folders]
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ConfigError(f"{', '.join(map(str, folders))}: a run is given twice")
    options = [{option["name"]: option["value"] for option in list_settings(run.config())} for run in runs]
    names = dict.fromkeys(name for own in options for name in own)
    differing = [name for name in names if len({own.get(name) for own in options}) > 1]
    data = {
        "kind": "runs",
        "name": path.stem,
        "options": [name for name in differing if name not in OWN and not name.startswith("logger")],
        "runs": [
            {
                "name": name,
                "options": own,
                "metrics": read_metrics(run.read_summary()) if run.summary.exists() else {},
                "curves": run_curves(run),
                "link": page_link(run, path.parent),
            }
            for name, own, run in zip(_distinct_names(runs), options, runs, strict=True)
        ],
    }
    write_page(path, render_page("runs", f"{len(runs)} runs", data))
    return path


def page_link(run: RunFolder, start: Path) -> str:
    """Return a link from a folder to a run's page or else to its folder, relative, so that both can be moved."""
    if not run.path.exists():
        return ""
    link = Path(os.path.relpath(run.path.resolve(), start.resolve())).as_posix()
    return f"{link}/{run.report.name}" if run.report.exists() else f"{link}/"


def _distinct_names(runs: Sequence[RunFolder]) -> list[str]:
    """Return the names of folders, or their paths if two have the same name."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]
