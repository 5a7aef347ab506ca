"""The page of a comparison: how the variants converge in each view, against pairs seen and against seconds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from skiplight.errors import RunError
from skiplight.experiments.comparison.compare import FINDINGS, LEVELS
from skiplight.experiments.comparison.curves import MEASURES, curves, metrics
from skiplight.experiments.comparison.plan import ONE_VIEW
from skiplight.experiments.comparison.queue import TrialResult, read_results, trial_table
from skiplight.experiments.folder import ExperimentFolder
from skiplight.experiments.metrics import PLAIN
from skiplight.files import read_json, read_text
from skiplight.report.html import render_page, write_page
from skiplight.training.run_folder import RunFolder


def write_comparison_page(folder: Path) -> Path:
    """Makes report.html in the folder of a finished comparison, from what is there.

    Raises:
        RunError: it is not a comparison, is not finished, or is damaged.
        UnwritableError: the folder cannot be written to.
    """
    try:
        outcomes = read_results(folder)
        about = ExperimentFolder(folder, "comparison").read()["compare"]
        levels = read_json(folder / LEVELS)
        findings = read_text(folder / FINDINGS)
        name = folder.resolve().name
        data = {
            "kind": "comparison",
            "name": name,
            "views": [_view(name, (about["views"] or ONE_VIEW)[name], outcomes, levels) for name in _views(outcomes)],
            "trials": _trials(folder, outcomes),
        }
    except FileNotFoundError as error:
        raise RunError(f"{error.filename} is missing: `skiplight compare` with the same options writes it") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(f"{folder} is a damaged comparison ({error}): `skiplight compare` goes on with it") from None
    path = folder / "report.html"
    write_page(path, render_page("comparison", name, data, prose(findings)))
    return path


def prose(findings: str) -> str:
    """findings.md as HTML, its title and its pictures left out; HTML in it stays text."""
    text = "\n".join(line for line in findings.splitlines() if not line.startswith(("# ", "![")))
    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["link", "image", "autolink"]).render(text)


def _views(outcomes: Sequence[TrialResult]) -> list[str]:
    """The views in the order in which they were trained."""
    return list(dict.fromkeys(outcome.run.view for outcome in outcomes))


def _view(name: str, view: dict[str, Any], outcomes: Sequence[TrialResult], levels: dict[str, Any]) -> dict[str, Any]:
    of_view = [outcome for outcome in outcomes if outcome.run.view == name]
    return {
        "name": name,
        "title": view.get("title", name),
        "fixed": view.get("fixed", []),
        "measures": [
            {
                "name": metric,
                "title": MEASURES.get(metric, metric),
                "level": levels.get(metric),
                "logarithmic": metric == "heldout/perplexity",
                "curves": {variant: dataclasses.asdict(curve) for variant, curve in curves(of_view, metric).items()},
            }
            for metric in metrics(of_view)
        ],
    }


def _trials(folder: Path, outcomes: Sequence[TrialResult]) -> list[dict[str, Any]]:
    """The rows of trials.csv, each with a link to its run."""
    frame = trial_table(folder, outcomes).frame
    # Of the run's own seconds and speeds those of training are enough here; trials.csv has all.
    frame = frame.drop(columns=[name for name in frame if name in PLAIN[1:] or name.startswith("seconds/")])
    rows = json.loads(frame.to_json(orient="records", double_precision=15))
    for row, outcome in zip(rows, outcomes, strict=True):
        report = RunFolder(outcome.folder).report
        row["run"] = (report if report.exists() else outcome.folder).relative_to(folder).as_posix()
    return rows
