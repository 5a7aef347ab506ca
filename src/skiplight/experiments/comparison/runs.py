"""Carries the runs of a comparison out, each in its folder, going on from whatever is there already."""

from __future__ import annotations

import csv
import dataclasses
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

from skiplight.errors import DivergedError, RunError
from skiplight.experiments.comparison.plan import Plan, PlannedRun, View
from skiplight.files import replacing
from skiplight.training.run_folder import RunFolder

log = logging.getLogger(__name__)

FILE, TRIALS, FINDINGS, LEVELS = "comparison.json", "trials.csv", "findings.md", "levels.json"
"""What a comparison's folder holds beside its runs."""

DIVERGED = "diverged.txt"
"""In the folder of a run that diverged: how. It is not tried again, as one that ended for another reason is."""


@dataclasses.dataclass
class TrialResult:
    """A run that is over.

    Attributes:
        run: what was planned.
        search: whether it only tried a candidate.
        folder: where it is.
        summary: what its summary.json holds; None where it failed.
        error: why it failed.
    """

    run: PlannedRun
    search: bool
    folder: Path
    summary: dict[str, Any] | None
    error: str | None = None

    @property
    def perplexity(self) -> float:
        """Held-out perplexity; infinite where the run failed."""
        heldout = (self.summary or {}).get("evaluation", {}).get("heldout", {})
        return float(heldout.get("perplexity", math.inf))


class ComparisonRuns:
    """The runs of a comparison in its folder.

    Args:
        folder: of the comparison.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self, plan: Plan) -> list[TrialResult]:
        """Searches, then trains every variant in every view from every seed."""
        ranked, tried, trained = {}, [], {}
        for view in plan.views:
            for variant in plan.variants:
                ranked[view.name, variant], outcomes = self._search(plan, view, variant)
                tried += outcomes
        # Seed by seed, so that a comparison that is stopped has something of every variant.
        for seeds in range(1, plan.compare.seeds + 1):
            for view in plan.views:
                for variant in plan.variants:
                    key = view.name, variant
                    trained[key] = self._train(plan, view, variant, ranked[key], seeds)
        return [*tried, *(outcome for outcomes in trained.values() for outcome in outcomes)]

    def _search(self, plan: Plan, view: View, variant: str) -> tuple[list[list[str]], list[TrialResult]]:
        """The candidates of a variant, that with the lowest held-out perplexity first, and all trials."""
        candidates = view.candidates[variant]
        if len(candidates) == 1:
            return candidates, []
        tried = [self._carry_out(plan.trial(view, variant, candidate), search=True) for candidate in candidates]
        stood = [i for i, outcome in enumerate(tried) if math.isfinite(outcome.perplexity)]
        ranked = [candidates[i] for i in sorted(stood, key=lambda i: tried[i].perplexity)]
        if not ranked:
            raise RunError(f"no candidate of {variant!r} in view {view.name!r} could be trained: {tried[0].error}")
        return ranked, tried

    def _train(self, plan: Plan, view: View, variant: str, ranked: list[list[str]], seeds: int) -> list[TrialResult]:
        """The runs of that many seeds with the best candidate that none of them diverges with.

        What the trial stood, a longer run or another seed may not: where one diverges, the next best candidate takes
        its place, and the runs of the other count as searched. Where all do, those of the last have failed.
        """
        searched: list[TrialResult] = []
        for candidate in ranked:
            trained = []
            for number in range(seeds):
                trained.append(self._carry_out(plan.run(view, variant, candidate, number), search=False))
                if trained[-1].summary is None:
                    break
            else:
                return [*searched, *trained]
            if candidate is not ranked[-1]:
                searched += [dataclasses.replace(outcome, search=True) for outcome in trained]
        return [*searched, *trained]

    def _carry_out(self, planned: PlannedRun, search: bool) -> TrialResult:
        """Trains a run, goes on with it, or finds it finished; one that diverges stays in its folder as failed."""
        from skiplight.training.fit import resume, train

        run = RunFolder(self.folder / "runs" / planned.name)
        failure = run.path / DIVERGED
        if run.summary.exists():
            run.drop_checkpoints()
            return TrialResult(planned, search, run.path, json.loads(run.summary.read_text(encoding="utf-8")))
        if failure.exists():
            return TrialResult(planned, search, run.path, None, failure.read_text(encoding="utf-8"))
        what = f"trying {' '.join(planned.chosen)}" if search else f"seed {planned.seed}"
        log.info("%s: view %s, %s, %s", self.folder.name, planned.view, planned.variant, what)
        try:
            summary = resume(run.path) if run.path.exists() else train(planned.config, run.path)
        except DivergedError as error:
            with replacing(failure) as temporary:
                temporary.write_text(str(error), encoding="utf-8")
            log.warning("%s failed: %s", os.fspath(run.path), error)
            return TrialResult(planned, search, run.path, None, str(error))
        run.drop_checkpoints()
        return TrialResult(planned, search, run.path, summary)


def read_outcomes(folder: Path) -> list[TrialResult]:
    """The runs of a finished comparison, as its trials.csv lists them.

    Raises:
        RunError: a run is missing or damaged.
        OSError, LookupError, ValueError: the table is.
    """
    outcomes = []
    with (folder / TRIALS).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            run = RunFolder(folder / "runs" / Path(row["run"]).name)
            planned = PlannedRun(
                row["view"], row["variant"], tuple(row["chosen"].split()), int(row["seed"]), run.config()
            )
            summary = run.read_summary() if row["state"] == "complete" else None
            outcomes.append(TrialResult(planned, row["kind"] == "search", run.path, summary))
    return outcomes
