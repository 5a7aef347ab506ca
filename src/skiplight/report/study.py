"""The page of a study or a multirun: which options matter and which are best, trial by trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skiplight.experiments.sweeps.metrics import PLAIN, incomparable, maximised
from skiplight.experiments.sweeps.plots import front_numbers, importances, varying
from skiplight.experiments.sweeps.summary import summarise
from skiplight.experiments.sweeps.table import Mean, Table
from skiplight.report.html import render_page, write_page
from skiplight.report.settings import format_value
from skiplight.training.run_folder import RunFolder


def report_study(folder: Path, metric: str | None = None) -> None:
    """Write what a study or a multirun found and its page, and print the table.

    Raises:
        RunError: there are no trials in the folder.
        UnwritableError: it cannot be written to.
    """
    table, best = summarise(folder, metric)
    print(f"page: {write_study_page(table, best)}")


def write_study_page(table: Table, best: Path | None) -> Path:
    """Makes report.html in the folder of the trials.

    Args:
        table: the trials.
        best: experiment/best.yaml, where there is one.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    path = table.folder / "report.html"
    write_page(path, render_page("study", table.folder.resolve().name, study_data(table, best)))
    return path


def study_data(table: Table, best: Path | None) -> dict[str, Any]:
    """What the page of a study shows."""
    means = table.means()
    several = len(table.metrics) > 1 and table.complete
    return {
        "kind": "study",
        "name": table.folder.resolve().name,
        "trials": [
            {
                "number": row.number,
                "state": row.state,
                "seed": row.seed,
                "params": {name: _plain(value) for name, value in row.params.items()},
                "figures": row.figures,
                "seconds": row.seconds,
                "error": row.error,
                "link": _link(table.folder, row.number),
            }
            for row in table.rows
        ],
        "swept": [name for name in table.swept if name != "seed"],
        "varying": varying(table) if table.complete else [],
        "metrics": table.metrics,
        "directions": table.directions,
        "figures": {name: maximised(name) for name in _figures(table)},
        "incomparable": incomparable(table.swept),
        "importance": importances(table),
        "front": front_numbers(table) if several else [],
        "best": _best(table, means[0], best) if means else None,
    }


def _figures(table: Table) -> list[str]:
    """The figures to choose from, those that the trials are judged by first, seconds and speeds last."""
    names = dict.fromkeys([*table.metrics, *(name for row in table.rows for name in row.figures)])
    later = {name for name in names if name in PLAIN or name.startswith("seconds/")} - set(table.metrics)
    return [*(name for name in names if name not in later), *(name for name in names if name in later)]


def _best(table: Table, mean: Mean, file: Path | None) -> dict[str, Any]:
    place = f"'hydra.searchpath=[\"file://{table.folder.resolve()}\"]'"
    return {
        "params": {name: format_value(value) for name, value in mean.params.items()},
        "mean": mean.mean,
        "deviation": mean.deviation,
        "trials": [row.number for row in mean.rows],
        "yaml": file.read_text(encoding="utf-8") if file else "",
        "command": f"skiplight train {place} experiment={file.stem}" if file else "",
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else format_value(value)


def _link(folder: Path, number: int) -> str:
    """The trial's page, if it was made, else its folder: relative, so that a moved study keeps its links."""
    run = RunFolder(folder / str(number))
    if run.report.exists():
        return f"{number}/{run.report.name}"
    return f"{number}/" if run.path.exists() else ""
