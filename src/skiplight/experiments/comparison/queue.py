"""The runs of a comparison: which are over, which are to be trained next, and what came of them.

What is to be trained is a function of the plan and of the runs that are over, so that several workers, machines and
commands, one after the other, train the same runs: first the search of each variant, then every seed of its best
candidate. Where one diverges, a longer run or another seed than in the search, the next best candidate takes its place.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from skiplight.errors import RunError
from skiplight.experiments import heartbeat
from skiplight.experiments.comparison.plan import Plan, PlannedRun, View
from skiplight.experiments.folder import ExperimentFolder
from skiplight.experiments.metrics import read_metrics
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.queue import ClaimedTrial, read_result
from skiplight.experiments.trials import TRIALS_FILE, TrialRow, TrialTable
from skiplight.training.run_folder import RunFolder

log = logging.getLogger(__name__)


@dataclasses.dataclass
class TrialResult:
    """A run that is over.

    Attributes:
        run: what was planned.
        search: whether it only tried a candidate.
        folder: where it is.
        summary: what its summary.json holds; None where it diverged.
        error: how it diverged.
    """

    run: PlannedRun
    search: bool
    folder: Path
    summary: dict[str, Any] | None
    error: str = ""

    @property
    def perplexity(self) -> float:
        """Held-out perplexity; infinite where the run diverged."""
        heldout = (self.summary or {}).get("evaluation", {}).get("heldout", {})
        return float(heldout.get("perplexity", math.inf))


@dataclasses.dataclass(frozen=True)
class ComparisonTrial(ClaimedTrial):
    """A run that this process is to train, as it was planned."""

    planned: PlannedRun


class Comparison:
    """A comparison in its folder, a queue of trials.

    Args:
        folder: of the comparison.
        plan: its runs.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.experiment = ExperimentFolder(folder, "comparison")
        self._ended: dict[Path, tuple[dict[str, Any] | None, str]] = {}

    def results(self) -> list[TrialResult]:
        """Return the runs that are over: those of the searches first, then those of each view and variant by seed."""
        found = list(self._progress())
        return [r for progress in found for r in progress.tried] + [r for progress in found for r in progress.trained]

    def claim(self) -> ComparisonTrial | None:
        """Claim the next run that nobody trains; None where all that can be trained now are trained or over.

        Raises:
            RunError: every candidate of a variant diverged.
            UnwritableError: the disk is full or read-only.
        """
        with self.experiment.locked():
            for number, (planned, search) in enumerate(self._pending_runs()):
                run = RunFolder(self._path(planned))
                if run.path.exists() and heartbeat.find_holder(run.path) is not None:
                    continue
                if not run.path.exists():
                    self.experiment.create_run(run.path, copy.deepcopy(planned.config), number)
                heartbeat.claim_run(run.path)
                detail = f"trying {' '.join(planned.chosen)}" if search else f"seed {planned.seed}"
                log.info("%s: view %s, %s, %s", self.folder.name, planned.view, planned.variant, detail)
                return ComparisonTrial(number, run.path, f"view {planned.view}, {planned.variant}", detail, planned)
        return None

    def is_waiting(self) -> bool:
        """Return whether a run is trained by others: more may be wanted when it is over."""
        return bool(self._pending_runs())

    def finish(self, trial: ComparisonTrial, result: ProcessResult) -> str:
        """Look at a run whose process has ended; one that diverged stays in its folder as failed.

        Raises:
            RunError: it ended for another reason.
        """
        run = RunFolder(trial.run)
        with self.experiment.locked():  # whoever looks for a run sees it either as claimed or as over
            if result.state == "diverged":  # also where result.json could not be written
                self._ended[run.path] = None, result.message
            heartbeat.release_run(run.path)
        if result.state == "finished":
            run.drop_checkpoints()
            ended = TrialResult(trial.planned, False, run.path, run.read_summary())
            return f"perplexity {ended.perplexity:,.1f}"
        if result.state in ("failed", "killed"):
            raise RunError(f"{run.path} {result.state}: {result.message}; the same command goes on with it")
        return f"{result.state}: {result.message}"

    def _pending_runs(self) -> list[tuple[PlannedRun, bool]]:
        """The runs to be trained now, and whether each only tries a candidate, in this order."""
        pending = {self._path(run): (run, search) for found in self._progress() for run, search in found.pending}
        # Seed by seed, so that a comparison that is stopped has something of every variant.
        return sorted(pending.values(), key=lambda one: (not one[1], one[0].seed))

    def _progress(self) -> Iterator[_Progress]:
        for view in self.plan.views:
            for variant in self.plan.variants:
                yield self._variant_progress(view, variant)

    def _variant_progress(self, view: View, variant: str) -> _Progress:
        found, ranked = _Progress(), view.candidates[variant]
        if len(ranked) > 1:
            runs = [self.plan.search_run(view, variant, candidate) for candidate in ranked]
            results = [self._result(run, True) for run in runs]
            found.tried = [result for result in results if result is not None]
            found.pending = [(run, True) for run, result in zip(runs, results, strict=True) if result is None]
            if found.pending:
                return found
            stood = [result for result in found.tried if math.isfinite(result.perplexity)]
            if not stood:
                raise RunError(
                    f"no candidate of {variant!r} in view {view.name!r} could be trained: {found.tried[0].error}"
                )
            ranked = [list(result.run.chosen) for result in sorted(stood, key=lambda result: result.perplexity)]
        for candidate in ranked:
            runs = [self.plan.full_run(view, variant, candidate, number) for number in range(self.plan.compare.seeds)]
            results = [self._result(run, False) for run in runs]
            # All up to the first seed that diverges, whichever was trained first.
            diverged = next((i for i, r in enumerate(results) if r is not None and r.summary is None), len(runs))
            ended = [result for result in results[: diverged + 1] if result is not None]
            found.pending = [(run, False) for run, r in zip(runs[:diverged], results, strict=False) if r is None]
            if found.pending or diverged == len(runs) or candidate is ranked[-1]:
                found.trained += ended
                break
            found.trained += [dataclasses.replace(result, search=True) for result in ended]
        return found

    def _path(self, planned: PlannedRun) -> Path:
        return self.folder / "runs" / planned.name

    def _result(self, planned: PlannedRun, search: bool) -> TrialResult | None:
        """What came of a run; None if it is not over."""
        run = RunFolder(self._path(planned))
        if run.path not in self._ended:
            if run.summary.exists():
                self._ended[run.path] = run.read_summary(), ""
            elif (ended := read_result(run.path)) is not None and ended.state == "diverged":
                self._ended[run.path] = None, ended.message
            else:
                return None
        return TrialResult(planned, search, run.path, *self._ended[run.path])


@dataclasses.dataclass
class _Progress:
    """How far a variant in a view has come: what is over of its search and its runs, and what is to be trained now."""

    tried: list[TrialResult] = dataclasses.field(default_factory=list)
    trained: list[TrialResult] = dataclasses.field(default_factory=list)
    pending: list[tuple[PlannedRun, bool]] = dataclasses.field(default_factory=list)


def comparison_table(folder: Path, results: Sequence[TrialResult]) -> TrialTable:
    """Return the runs of a comparison as a table; they differ by view, variant and what was chosen."""
    rows = []
    for number, result in enumerate(results):
        run, summary = result.run, result.summary
        params = {
            "view": run.view,
            "variant": run.variant,
            "kind": "search" if result.search else "run",
            "chosen": " ".join(run.chosen),
            "engine": summary["engine"] if summary else None,
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
    """Return the runs of a finished comparison, as its trials.csv lists them.

    Raises:
        RunError: a run is missing or damaged.
        OSError, LookupError, ValueError: the table is.
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
