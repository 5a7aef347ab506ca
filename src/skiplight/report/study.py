"""The page of a study or a multirun: which options matter and which are best, trial by trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skiplight.experiments.metrics import RUN_METRICS, incomparable_options, is_maximised
from skiplight.experiments.sweeps.plots import option_importances, pareto_front, varying_options
from skiplight.experiments.sweeps.summary import write_study_report
from skiplight.experiments.trials import SeedAverage, TrialTable
from skiplight.report.html import render_page, write_page
from skiplight.report.settings import format_value
from skiplight.training.run_folder import RunFolder


def report_study(folder: Path, metric: str | None = None) -> TrialTable:
    """Write what a study or a multirun found and its page, print the table, and return it.

    Raises:
        RunError: there are no trials in the folder.
        UnwritableError: it cannot be written to.
    """
    table, best = write_study_report(folder, metric)
    print(f"page: {write_study_page(table, best)}")
    return table


def write_study_page(table: TrialTable, best: Path | None) -> Path:
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


def study_data(table: TrialTable, best: Path | None) -> dict[str, Any]:
    """What the page of a study shows."""
    averages = table.average_seeds()
    several = len(table.targets) > 1 and table.complete
    return {
        "kind": "study",
        "name": table.folder.resolve().name,
        "trials": [
            {
                "number": row.number,
                "state": row.state,
                "seed": row.seed,
                "params": {name: _json_value(value) for name, value in row.params.items()},
                "metrics": row.metrics,
                "seconds": row.seconds,
                "error": row.error,
                "link": _trial_link(table.folder, row.run),
            }
            for row in table.rows
        ],
        "swept": table.swept_except_seed,
        "varying": varying_options(table) if table.complete else [],
        "targets": table.targets,
        "directions": table.directions,
        "metrics": {name: is_maximised(name) for name in _order_metrics(table)},
        "incomparable": incomparable_options(table.swept),
        "importance": option_importances(table),
        "front": pareto_front(table) if several else [],
        "best": _best_data(table, averages[0], best) if averages else None,
    }


def _order_metrics(table: TrialTable) -> list[str]:
    """The metrics to choose from, the targets first, seconds and speeds last."""
    later = {name for name in table.metrics if name in RUN_METRICS or name.startswith("seconds/")} - set(table.targets)
    return sorted(table.metrics, key=lambda name: name in later)


def _best_data(table: TrialTable, mean: SeedAverage, file: Path | None) -> dict[str, Any]:
    place = f"'hydra.searchpath=[\"file://{table.folder.resolve()}\"]'"
    return {
        "params": {name: format_value(value) for name, value in mean.params.items()},
        "mean": mean.mean,
        "deviation": mean.deviation,
        "trials": [row.number for row in mean.rows],
        "yaml": file.read_text(encoding="utf-8") if file else "",
        "command": f"skiplight train {place} experiment={file.stem}" if file else "",
    }


def _json_value(value: Any) -> Any:
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else format_value(value)


def _trial_link(folder: Path, name: str) -> str:
    """The trial's page, if it was made, else its folder: relative, so that a moved study keeps its links."""
    run = RunFolder(folder / name)
    if run.report.exists():
        return f"{name}/{run.report.name}"
    return f"{name}/" if run.path.exists() else ""
