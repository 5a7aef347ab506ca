"""The page of a study or a multirun: the importance of options, the best ones, and all trials."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from skiplight.errors import SkiplightError
from skiplight.experiments.metrics import RUN_METRICS, incomparable_options, is_maximised
from skiplight.experiments.sweeps.plots import option_importances, pareto_front, varying_options
from skiplight.experiments.sweeps.summary import train_command, write_study_report
from skiplight.experiments.trials import SeedAverage, TrialTable
from skiplight.report.curves import page_link, run_curves
from skiplight.report.html import render_page, write_page
from skiplight.report.run import write_trial_page
from skiplight.report.settings import format_value
from skiplight.training.run_folder import RunFolder

log = logging.getLogger(__name__)


def report_study(folder: Path, metric: str | None = None, *, trial_pages: bool = False) -> TrialTable:
    """Write the report and the page of a study or a multirun, print the table of trials, and return it.

    Args:
        folder: folder of the study or the multirun.
        metric: metric to rank by; default: that of the study, or the first evaluation.
        trial_pages: write a page for each trial too, which takes some tenths of a second for each.

    Raises:
        RunError: the folder has no trials.
        ConfigError: the runs do not have the metric.
        UnwritableError: the folder cannot be written to.
    """
    table, best = write_study_report(folder, metric)
    for row in table.rows if trial_pages else ():
        try:
            write_trial_page(RunFolder(folder / row.run), f"{folder.resolve().name}/{row.number}", row.state, row.error)
        except SkiplightError as error:  # a trial whose vectors were deleted leaves the others their pages
            log.warning("trial %d has no page: %s", row.number, error)
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
    ranked = table.average_confirmations() or averages
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
                "link": page_link(RunFolder(table.folder / row.run), table.folder),
                "curves": run_curves(RunFolder(table.folder / row.run)),
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
        "best": _best_data(table, ranked[0], best) if averages else None,
        "best_by": [_best_by(table, target) for target in table.targets] if several else [],
        "logarithmic": table.logarithmic,
    }


def _order_metrics(table: TrialTable) -> list[str]:
    """Return the metrics for the page's menu: the targets first, seconds and speeds last."""
    later = {name for name in table.metrics if name in RUN_METRICS or name.startswith("seconds/")} - set(table.targets)
    return sorted(table.metrics, key=lambda name: name in later)


def _best_by(table: TrialTable, target: str) -> dict[str, Any]:
    """Return the best point by one of several metrics."""
    found = table.best_by(target)
    params = {name: _json_value(value) for name, value in found.params.items()}
    return {"metric": target, "params": params, "mean": found.mean, "trials": [row.number for row in found.rows]}


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
