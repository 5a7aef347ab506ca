"""The runs of a comparison: which have ended, with what results, and which are trained next.

The next runs are a function of the plan and of the results so far, so any number of workers, machines and successive
commands train the same runs: first the search of each variant, then every seed of its best candidate. If the best
candidate diverges in a full run, which is longer or has another seed than in the search, the next best replaces it.
A variant whose candidates all diverge has no runs, which the findings say; the comparison of the others goes on.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skiplight.errors import RunError
from skiplight.experiments import heartbeat
from skiplight.experiments.comparison.plan import Plan, PlannedRun, View
from skiplight.experiments.comparison.results import TrialResult
from skiplight.experiments.folder import ExperimentFolder
from skiplight.experiments.live import format_duration
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.queue import ClaimedTrial, QueueProgress, read_result
from skiplight.training.run_folder import RunFolder

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ComparisonTrial(ClaimedTrial):
    """A claimed run with its plan."""

    planned: PlannedRun


class Comparison:
    """A queue of the runs of a comparison, each of which is a trial.

    Args:
        folder: folder of the comparison.
        plan: plan of the comparison.
        workers: number of runs that are trained at once, for the estimate of the time left.
    """

    def __init__(self, folder: Path, plan: Plan, workers: int = 1) -> None:
        self.folder, self.plan, self.workers = folder, plan, workers
        self.experiment, self.metric = ExperimentFolder(folder, "comparison"), "heldout/perplexity"
        self._ended: dict[Path, tuple[dict[str, Any] | None, str]] = {}

    def results(self) -> list[TrialResult]:
        """Return the results so far: those of all searches, then those of each view and variant by seed."""
        found = list(self._progress())
        return [r for progress in found for r in progress.tried] + [r for progress in found for r in progress.trained]

    def claim(self) -> ComparisonTrial | None:
        """Claim the next run; return None if all that can be trained now have ended or are claimed.

        Raises:
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
        """Record how a run ended, and return a message to log, with an estimate of the time left.

        A run that diverged is a result too.

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
            return f"perplexity {ended.perplexity:,.1f}; {self.describe_rest()}"
        if result.state in ("failed", "killed"):
            raise RunError(f"{run.path} {result.state}: {result.message}; the same command resumes it")
        if result.state == "diverged":
            return f"diverged: {result.message}; {self.describe_rest()}"
        return f"{result.state}: {result.message}"

    def progress(self) -> QueueProgress:
        """Return how far the comparison is; the text has the time left."""
        trained = [result for progress in self._progress() for result in progress.trained]
        best = min(trained, key=lambda result: result.perplexity, default=None)
        about = f"{best.run.variant} in view {best.run.view}, perplexity {best.perplexity:,.1f}" if best else ""
        return QueueProgress(self.describe_rest(), None, about)

    def describe_rest(self) -> str:
        """Return how many runs have ended, how many are left, and about how long those take.

        A run that is left is taken to last as long as those of its variant that have finished, by its number of tokens,
        or as those of all variants where none has.
        """
        left: list[tuple[str, float]] = []
        ended: dict[Path, tuple[str, float, float | None]] = {}
        for progress in self._progress():
            left += [(run.variant, self._share(search)) for run, search in progress.pending] + progress.later
            for result in (*progress.tried, *progress.trained):
                seconds = None if result.summary is None else result.summary["seconds"]["total"]
                share = self._share(result.search)
                ended.setdefault(result.folder, (result.run.variant, share, seconds))
        took = [(variant, seconds / share) for variant, share, seconds in ended.values() if seconds is not None]
        text = f"{len(ended)} of {len(ended) + len(left)} runs"
        if not left or not took:
            return text
        by_variant = {name: statistics.fmean(s for v, s in took if v == name) for name, _ in took}
        usual = statistics.fmean(by_variant.values())
        rest = sum(share * by_variant.get(variant, usual) for variant, share in left) / self.workers
        return f"{text}, about {format_duration(rest)} left"

    def _share(self, search: bool) -> float:
        """Return the share of a run's tokens that a run of the search, or one that is compared, trains on."""
        return self.plan.compare.search if search else 1.0

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
                again = self.plan.compare.seeds - (self.plan.compare.search == 1)  # the search has trained one of them
                found.later = [(variant, 1.0)] * again
                return found
            able = [result for result in found.tried if math.isfinite(result.validation_perplexity)]
            ranked = [list(result.run.chosen) for result in sorted(able, key=lambda one: one.validation_perplexity)]
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
        later: variant and share of a run's tokens of those that follow, which are not known yet.
    """

    tried: list[TrialResult] = dataclasses.field(default_factory=list)
    trained: list[TrialResult] = dataclasses.field(default_factory=list)
    pending: list[tuple[PlannedRun, bool]] = dataclasses.field(default_factory=list)
    later: list[tuple[str, float]] = dataclasses.field(default_factory=list)
