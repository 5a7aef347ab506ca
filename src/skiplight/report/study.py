"""The page of a study or a multirun: the importance of options, the best ones, and all trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skiplight.experiments.metrics import RUN_METRICS, incomparable_options, is_maximised
from skiplight.experiments.sweeps.plots import option_importances, pareto_front, varying_options
from skiplight.experiments.sweeps.summary import train_command, write_study_report
from skiplight.experiments.trials import SeedAverage, TrialTable
from skiplight.report.html import render_page, write_page
from skiplight.report.settings import format_value
from skiplight.training.run_folder import RunFolder


def report_study(folder: Path, metric: str | None = None) -> TrialTable:
    """Write the report and the page of a study or a multirun, print the table of trials, and return it.

    Args:
        folder: folder of the study or the multirun.
        metric: metric to rank by; default: that of the study, or the first evaluation.

    Raises:
        RunError: the folder has no trials.
        ConfigError: the runs do not have the metric.
        UnwritableError: the folder cannot be written to.
    """
    table, best = write_study_report(folder, metric)
    print(f"page: {write_study_page(table, best)}")
    return table


def write_study_page(table: TrialTable, best: Path | None) -> Path:
    """Write report.html into the folder of the trials, and return its path.

    Args:
        table: the trials.
        best: path of experiment/best.yaml, or None if no trial is complete.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    path = table.folder / "report.html"
    write_page(path, render_page("study", table.folder.resolve().name, study_data(table, best)))
    return path


def study_data(table: TrialTable, best: Path | None) -> dict[str, Any]:
    """Return the data of the page of a study; arguments are those of `write_study_page`."""
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
        "best": _best_data(table, (table.average_confirmations() or averages)[0], best) if averages else None,
    }


def _order_metrics(table: TrialTable) -> list[str]:
    """Return the metrics for the page's menu: the targets first, seconds and speeds last."""
    later = {name for name in table.metrics if name in RUN_METRICS or name.startswith("seconds/")} - set(table.targets)
    return sorted(table.metrics, key=lambda name: name in later)


def _best_data(table: TrialTable, mean: SeedAverage, file: Path | None) -> dict[str, Any]:
    return {
        "params": {name: format_value(value) for name, value in mean.params.items()},
        "mean": mean.mean,
        "error": mean.error,
        "trials": [row.number for row in mean.rows],
        "yaml": file.read_text(encoding="utf-8") if file else "",
        "command": train_command(table.folder, file) if file else "",
    }


def _json_value(value: Any) -> Any:
    return value if isinstance(value, int | float | str) and not isinstance(value, bool) else format_value(value)


def _trial_link(folder: Path, name: str) -> str:
    """Return a link to a trial's page or else to its folder, relative, so that it works after the study is moved."""
    run = RunFolder(folder / name)
    if run.report.exists():
        return f"{name}/{run.report.name}"
    return f"{name}/" if run.path.exists() else ""
