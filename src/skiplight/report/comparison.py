"""The page of a comparison: how the variants converge in each view, against pairs, scores and seconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from skiplight.errors import RunError
from skiplight.experiments.comparison.compare import FINDINGS, LEVELS
from skiplight.experiments.comparison.curves import METRIC_TITLES, compute_curves, is_logarithmic, list_metrics
from skiplight.experiments.comparison.plan import DEFAULT_VIEWS
from skiplight.experiments.comparison.results import TrialResult, comparison_table, read_results
from skiplight.experiments.folder import ExperimentFolder
from skiplight.experiments.metrics import RUN_METRICS
from skiplight.files import read_json, read_text
from skiplight.report.html import render_page, write_page
from skiplight.training.run_folder import RunFolder


def write_comparison_page(folder: Path) -> Path:
    """Write report.html into the folder of a finished comparison, from its files, and return its path.

    Raises:
        RunError: the folder is not a comparison, or the comparison is not finished or damaged.
        UnwritableError: the folder cannot be written to.
    """
    try:
        results = read_results(folder)
        about = ExperimentFolder(folder, "comparison").read()["compare"]
        levels = read_json(folder / LEVELS)
        findings = read_text(folder / FINDINGS)
        name = folder.resolve().name
        data = {
            "kind": "comparison",
            "name": name,
            "views": [
                _view_data(name, (about["views"] or DEFAULT_VIEWS)[name], results, levels)
                for name in _view_names(results)
            ],
            "trials": _trial_rows(folder, results),
        }
    except FileNotFoundError as error:
        raise RunError(f"{error.filename} is missing: `skiplight compare` with the same options writes it") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(
            f"{folder} is a damaged comparison ({error}): `skiplight compare` with the same options writes it again"
        ) from None
    path = folder / "report.html"
    write_page(path, render_page("comparison", name, data, render_findings_html(findings)))
    return path


def render_findings_html(findings: str) -> str:
    """Return the text of findings.md as HTML without title and pictures; HTML in the text is escaped."""
    text = "\n".join(line for line in findings.splitlines() if not line.startswith(("# ", "![")))
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"]).render(text)


def _view_names(results: Sequence[TrialResult]) -> list[str]:
    """Return the names of the views in the order in which they were trained."""
    return list(dict.fromkeys(result.run.view for result in results))


def _view_data(
    name: str, view: dict[str, Any], results: Sequence[TrialResult], levels: dict[str, Any]
) -> dict[str, Any]:
    view_results = [result for result in results if result.run.view == name]
    return {
        "name": name,
        "title": view.get("title", name),
        "fixed": view.get("fixed", []),
        "measures": [
            {
                "name": metric,
                "title": METRIC_TITLES.get(metric, metric),
                "level": levels.get(metric),
                "logarithmic": is_logarithmic(metric),
                "curves": {
                    variant: dataclasses.asdict(curve)
                    for variant, curve in compute_curves(view_results, metric).items()
                },
            }
            for metric in list_metrics(view_results)
        ],
    }


def _trial_rows(folder: Path, results: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """Return the rows of trials.csv, each with a link to its run."""
    frame = comparison_table(folder, results).frame
    # The page shows no speeds, and only the seconds of training; trials.csv has all.
    frame = frame.drop(columns=[name for name in frame if name in RUN_METRICS[1:] or name.startswith("seconds/")])
    rows = json.loads(frame.to_json(orient="records", double_precision=15))
    for row, result in zip(rows, results, strict=True):
        report = RunFolder(result.folder).report
        row["run"] = (report if report.exists() else result.folder).relative_to(folder).as_posix()
    return rows
