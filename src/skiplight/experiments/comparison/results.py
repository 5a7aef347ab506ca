"""The results of a comparison's runs: each as it ended, and all of them as the table trials.csv."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skiplight.experiments.comparison.plan import PlannedRun
from skiplight.experiments.metrics import read_metrics
from skiplight.experiments.trials import TRIALS_FILE, TrialRow, TrialTable
from skiplight.training.run_folder import RunFolder


@dataclasses.dataclass
class TrialResult:
    """The result of a run that finished or diverged.

    Attributes:
        run: the run as planned.
        search: whether it belongs to the search, not to the runs that are compared.
        folder: its folder.
        summary: content of its summary.json; None if it diverged.
        error: how it diverged; empty otherwise.
    """

    run: PlannedRun
    search: bool
    folder: Path
    summary: dict[str, Any] | None
    error: str = ""

    @property
    def perplexity(self) -> float:
        """The held-out perplexity; infinite if the run diverged."""
        return float(self._heldout.get("perplexity", math.inf))

    @property
    def validation_perplexity(self) -> float:
        """The perplexity by which candidates are chosen; infinite if the run diverged."""
        return float(self._heldout.get("validation", self._heldout).get("perplexity", math.inf))

    @property
    def _heldout(self) -> dict[str, Any]:
        found: dict[str, Any] = (self.summary or {}).get("evaluation", {}).get("heldout", {})
        return found


def comparison_table(folder: Path, results: Sequence[TrialResult]) -> TrialTable:
    """Return the results of a comparison as a table, whose options are view, variant, kind, candidate and engine."""
    rows = []
    for number, result in enumerate(results):
        run, summary = result.run, result.summary
        params = {
            "view": run.view,
            "variant": run.variant,
            "kind": "search" if result.search else "run",
            "chosen": " ".join(run.chosen),
            "engine": summary["engine"] if summary else None,
            "threads": summary["threads"] if summary else None,
        }
        rows.append(
            TrialRow(
                number,
                "failed" if summary is None else "complete",
                run.seed,
                params,
                read_metrics(summary) if summary else {},
                summary["seconds"]["train"] if summary else None,
                result.folder.relative_to(folder).as_posix(),
                result.error,
            )
        )
    return TrialTable(folder, rows, list(rows[0].params), ["heldout/perplexity"], ["minimize"])


def read_results(folder: Path) -> list[TrialResult]:
    """Return the results of a finished comparison, from its trials.csv.

    Raises:
        RunError: a run is missing or damaged.
        OSError, LookupError, ValueError: trials.csv is missing or damaged.
    """
    results = []
    with (folder / TRIALS_FILE).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            run = RunFolder(folder / "runs" / Path(row["run"]).name)
            chosen = tuple(row["chosen"].split())
            planned = PlannedRun(row["view"], row["variant"], chosen, int(row["seed"]), run.config())
            summary = run.read_summary() if row["state"] == "complete" else None
            results.append(TrialResult(planned, row["kind"] == "search", run.path, summary))
    return results
