"""The runs of a comparison: which have ended, with what results, and which are trained next.

The next runs are a function of the plan and of the results so far, so any number of workers, machines and successive
commands train the same runs: first the search of each variant, then every seed of its best candidate. If the best
candidate diverges in a full run, which is longer or has another seed than in the search, the next best replaces it.
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
        heldout = (self.summary or {}).get("evaluation", {}).get("heldout", {})
        return float(heldout.get("perplexity", math.inf))


@dataclasses.dataclass(frozen=True)
class ComparisonTrial(ClaimedTrial):
    """A claimed run with its plan."""

    planned: PlannedRun


class Comparison:
    """A queue of the runs of a comparison, each of which is a trial.

    Args:
        folder: folder of the comparison.
        plan: plan of the comparison.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.experiment = ExperimentFolder(folder, "comparison")
        self._ended: dict[Path, tuple[dict[str, Any] | None, str]] = {}

    def results(self) -> list[TrialResult]:
        """Return the results so far: those of all searches, then those of each view and variant by seed."""
        found = list(self._progress())
        return [r for progress in found for r in progress.tried] + [r for progress in found for r in progress.trained]

    def claim(self) -> ComparisonTrial | None:
        """Claim the next run; return None if all that can be trained now have ended or are claimed.

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
        """Return whether other processes are training runs, after which there may be more."""
        return bool(self._pending_runs())

    def finish(self, trial: ComparisonTrial, result: ProcessResult) -> str:
        """Record how a run ended, and return a message to log; a run that diverged is a result too.

        Raises:
            RunError: the run failed without having diverged.
        """
        run = RunFolder(trial.run)
        with self.experiment.locked():  # so that others see the run either as claimed or as ended
            if result.state == "diverged":  # also where result.json could not be written
                self._ended[run.path] = None, result.message
            heartbeat.release_run(run.path)
        if result.state == "finished":
            run.drop_checkpoints()
            ended = TrialResult(trial.planned, False, run.path, run.read_summary())
            return f"perplexity {ended.perplexity:,.1f}"
        if result.state in ("failed", "killed"):
            raise RunError(f"{run.path} {result.state}: {result.message}; the same command resumes it")
        return f"{result.state}: {result.message}"

    def _pending_runs(self) -> list[tuple[PlannedRun, bool]]:
        """Return the runs to train next, in order, each with whether it belongs to a search."""
        pending = {self._path(run): (run, search) for found in self._progress() for run, search in found.pending}
        # Seed by seed, so that a stopped comparison has results of every variant.
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
            ranked_results = [result for result in found.tried if math.isfinite(result.perplexity)]
            if not ranked_results:
                raise RunError(
                    f"no candidate of {variant!r} in view {view.name!r} could be trained: {found.tried[0].error}"
                )
            ranked = [
                list(result.run.chosen) for result in sorted(ranked_results, key=lambda result: result.perplexity)
            ]
        for candidate in ranked:
            runs = [self.plan.full_run(view, variant, candidate, number) for number in range(self.plan.compare.seeds)]
            results = [self._result(run, False) for run in runs]
            # Results count up to the first seed that diverged, in the order of seeds and not of time.
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
        """Return the result of a run, or None if it has neither finished nor diverged."""
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
    """The progress of a variant in a view.

    Attributes:
        tried: results of the search.
        trained: results of full runs.
        pending: the runs to train next, each with whether it belongs to the search.
    """

    tried: list[TrialResult] = dataclasses.field(default_factory=list)
    trained: list[TrialResult] = dataclasses.field(default_factory=list)
    pending: list[tuple[PlannedRun, bool]] = dataclasses.field(default_factory=list)


def comparison_table(folder: Path, results: Sequence[TrialResult]) -> TrialTable:
    """Return the results of a comparison as a table; the options are view, variant, kind, candidate and engine."""
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
