"""A study: study.yaml has its options, journal.log the trials and their results, and `<number>/` is the run of a trial.

The process that holds the study's lock may claim a trial: one whose process has died, one that is promoted from a rung,
or else a new one. What is promoted and what is new is a function of the journal, the study's seed and the trial's
number, so a study that was killed continues as if it had not been. A trial is appended to the journal with all its
values in one line.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skiplight.config.schema import Config
from skiplight.config.validate import from_mapping, run_options
from skiplight.errors import RunError, UnwritableError
from skiplight.experiments import heartbeat
from skiplight.experiments.folder import ExperimentFolder
from skiplight.experiments.metrics import evaluation_of, read_metrics, study_targets
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.queue import ClaimedTrial, QueueProgress
from skiplight.experiments.sweeps import space
from skiplight.experiments.sweeps.journal import hide_password, open_database, open_storage
from skiplight.experiments.sweeps.points import (
    CONFIRMING_SEEDS,
    CONFIRMS,
    POINT,
    RUNG,
    SEED,
    Point,
    group_points,
    is_paused,
    score_key,
)
from skiplight.experiments.sweeps.progress import study_progress
from skiplight.experiments.sweeps.promotion import PROMOTING, first_rung, next_promotion
from skiplight.experiments.sweeps.pruners import PRUNERS, make_pruner
from skiplight.experiments.sweeps.samplers import ATTEMPTS, make_sampler, suggest
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    import optuna

JOURNAL_FILE, STUDY_NAME = "journal.log", "study"


@dataclasses.dataclass(frozen=True)
class StudyTrial(ClaimedTrial):
    """A claimed trial with the values of the swept options."""

    params: space.Params


class Study:
    """A study, which is a queue of trials.

    Args:
        folder: folder of the study.
        config: the options of the runs and of the study.
        limit: number of points; default: unlimited, or all points of a grid.
    """

    def __init__(self, folder: Path, config: Config, limit: int | None = None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.config = folder, config
        self.experiment = ExperimentFolder(folder, "study")
        self.targets, self.directions = study_targets(config)
        self.metric = self.targets[0]
        self.space = space.build_distributions(config.study.space, config)
        self.grid = space.grid_points(self.space, config) if config.study.sampler == "grid" else None
        if self.grid is not None:
            limit = min(len(self.grid), len(self.grid) if limit is None else limit)
        self.limit = limit
        self._left_alone: set[int] = set()  # trials that another process trains, though this one had claimed them
        # A database has many studies. This one keeps its id when its folder is moved.
        url, name = config.study.storage, STUDY_NAME
        self.storage: optuna.storages.BaseStorage
        if url is not None:
            name = f"skiplight-{self.experiment.read()['id']}"
            self.storage = open_database(url)
        else:
            try:
                self.storage = open_storage(folder / JOURNAL_FILE)
            except OSError as error:
                raise UnwritableError(f"{folder / JOURNAL_FILE} cannot be written: {error.strerror}") from None
        folders = [path for path in folder.glob("*/trial.json") if path.parent.name.isdecimal()]
        try:
            self.study = optuna.load_study(storage=self.storage, study_name=name)
        except KeyError:
            self.study = optuna.create_study(
                storage=self.storage, study_name=name, directions=self.directions, load_if_exists=True
            )
        # A trial is in the journal before its folder is made.
        count = len(self.trials)
        place = hide_password(url) if url else folder / JOURNAL_FILE
        if lost := [number for path in folders if (number := int(path.parent.name)) >= count]:
            raise RunError(
                f"{place} is damaged: it has lost trial {max(lost)}, whose folder exists; restore it"
                " from a backup, or begin another study"
            )

    @classmethod
    def create_or_load(cls, folder: Path, config: Config, limit: int | None = None) -> Study:
        """Create a study, or load an existing one with the same options; arguments are those of the class.

        Raises:
            ConfigError: the search space or metric is wrong, or the existing study has other options.
            RunError: the folder is not a study.
            UnwritableError: the folder cannot be written to.
        """
        found = space.build_distributions(config.study.space, config)
        space.check_values(config.study.space, config)
        study_targets(config)
        if config.study.sampler == "grid":
            space.grid_points(found, config)
        else:
            make_sampler(config.study, config.seed, 0)
        if config.study.pruner in PRUNERS:
            make_pruner(config)
        if config.study.storage is not None:
            open_database(config.study.storage)
        run = run_options(config) | {"run_dir": None}
        ExperimentFolder(folder, "study").create_or_check(run=run, study=dataclasses.asdict(config.study))
        return cls(folder, config, limit)

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Load an existing study.

        Raises:
            RunError: the folder is not a study.
        """
        about = ExperimentFolder(folder, "study").read()
        return cls(folder, from_mapping(about["run"] | {"study": about["study"]}))

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials by number, as they are in the journal now."""
        return self.study.get_trials(deepcopy=False)

    def run(self, number: int) -> Path:
        """Return the folder of a trial's run."""
        return self.folder / str(number)

    def claim(self) -> StudyTrial | None:
        """Claim a trial whose process has died, one that goes on from a rung, or a new one; None if there is none now.

        Raises:
            UnwritableError: the disk is full or read-only.
        """
        from optuna.trial import TrialState

        with self.experiment.locked():
            trials = self.trials
            for found in trials:
                running = found.state == TrialState.RUNNING and not is_paused(found)
                if running and heartbeat.find_holder(self.run(found.number)) is None:
                    return self._claim(found)
            points = group_points(trials, self.config.study.seeds)
            return (
                self._claim_in_point(points)
                or self._claim_promotion(points)
                or self._claim_new(points)
                or self._claim_confirmation(trials, points)
            )

    def is_waiting(self) -> bool:
        """Return whether the end of another process's trial may lead to a further one, by promotion or confirmation."""
        if self.config.study.pruner not in PROMOTING and not self.config.study.confirm:
            return False  # no trial depends on those of other processes, and the same command resumes one that dies
        running = [trial for trial in self.trials if not trial.state.is_finished() and not is_paused(trial)]
        return any(trial.number not in self._left_alone for trial in running)

    def _claim_in_point(self, points: list[Point]) -> StudyTrial | None:
        """Claim the next trial of a point that has begun, or been promoted, with other trials."""
        for point in points:
            if point.is_out:
                continue
            for trial in point.trials:
                if is_paused(trial) and trial.user_attrs[RUNG] < point.rung:
                    return self._promote(trial, point.rung)
            if len(point.trials) < point.seeds:
                about = {POINT: point.number, SEED: self.config.seed + len(point.trials)}
                return self._add(point.params, about | self._rung_of(point.rung))
        return None

    def _claim_promotion(self, points: list[Point]) -> StudyTrial | None:
        options = self.config.study
        if options.pruner not in PROMOTING:
            return None
        maximise = self.directions[0] == "maximize"
        point = next_promotion(options.pruner, points, options.rungs, maximise=maximise, limit=self.limit)
        return None if point is None else self._promote(point.trials[0], point.rung + 1)

    def _claim_new(self, points: list[Point]) -> StudyTrial | None:
        if self.limit is not None and len(points) >= self.limit:
            return None
        options = self.config.study
        about = {POINT: len(self.trials), SEED: self.config.seed} if options.seeds > 1 else {}
        rung = first_rung(options.pruner, len(points), options.rungs)
        params, kept = self._suggest(points)
        return self._add(params, about | self._rung_of(rung), kept)

    def _rung_of(self, rung: int) -> dict[str, int]:
        """Return what the journal has of the rung that a new trial may train to."""
        return {RUNG: rung} if self.config.study.pruner in PROMOTING else {}

    def _claim_confirmation(self, trials: list[optuna.trial.FrozenTrial], points: list[Point]) -> StudyTrial | None:
        """Claim a trial of one of the best points with a fresh seed, after the search has ended."""
        if self.limit is None or any(point.has("RUNNING") and not point.is_paused for point in points):
            return None
        sign = -1 if self.directions[0] == "maximize" else 1
        complete = [point for point in points if point.is_complete]
        best = sorted(complete, key=lambda point: (sign * point.value, point.number))[: self.config.study.confirm]
        for point in best:
            own = [trial for trial in trials if trial.user_attrs.get(CONFIRMS) == point.number]
            if len(own) < max(CONFIRMING_SEEDS, point.seeds):
                seed = self.config.seed + point.seeds + len(own)
                return self._add(point.params, {CONFIRMS: point.number, SEED: seed})
        return None

    def _promote(self, trial: optuna.trial.FrozenTrial, rung: int) -> StudyTrial:
        """Let a trial train to a rung, and claim it."""
        self.storage.set_trial_user_attr(trial._trial_id, RUNG, rung)
        return self._claim(self.trials[trial.number])

    def _add(self, params: space.Params, about: dict[str, Any], kept: dict[str, Any] | None = None) -> StudyTrial:
        """Append a trial to the journal, and claim it.

        Args:
            params: the values of the swept options.
            about: its user attributes.
            kept: its system attributes, of the sampler.
        """
        number = len(self.trials)
        self.study.add_trial(_running_trial(params, self.space, about, kept or {}))
        return self._claim(self.trials[number])

    def _suggest(self, points: list[Point]) -> tuple[space.Params, dict[str, Any]]:
        """Return the values of the next point, and what the sampler keeps with it."""
        number = len(points)
        if self.grid is not None:
            return self.grid[number], {}
        tried = [point.params for point in points]
        for attempt in range(ATTEMPTS):
            sampler = make_sampler(self.config.study, self.config.seed, number, attempt)
            params, kept = suggest(sampler, points, self.space, self.directions, self.config)
            if params not in tried:
                break
        return params, kept

    def _claim(self, trial: optuna.trial.FrozenTrial) -> StudyTrial:
        number, params = trial.number, trial.params
        run = self.run(number)
        if not RunFolder(run).config_file.exists():
            config = space.apply_parameters(self.config, params)
            config.seed = trial.user_attrs.get(SEED, config.seed)
            self.experiment.create_run(run, config, number)
        heartbeat.claim_run(run)
        about = params | {SEED: trial.user_attrs[SEED]} if SEED in trial.user_attrs else params
        detail = "  ".join(f"{name}={format_short(value)}" for name, value in about.items())
        to, rungs = trial.user_attrs.get(RUNG), self.config.study.rungs
        rung = "" if to is None else "the end" if to == rungs else f"{to + 1} of {rungs}"
        return StudyTrial(number, run, f"trial {number}", detail, params, rung=rung)

    def progress(self) -> QueueProgress:
        """Return how far the study is."""
        return study_progress(self.trials, self.config.study, self.metric, self.directions[0], self.limit)

    def finish(self, trial: StudyTrial, result: ProcessResult) -> str:
        """Write the result of a trial into the journal, and return a message to log.

        A trial that was stopped, or whose disk is full, stays running in the journal: the same command resumes it.
        """
        from optuna.trial import TrialState

        if result.state == "busy":  # its heartbeat stays, so that this command does not try it again
            self._left_alone.add(trial.number)
            return result.message
        trial_id, values, error = self.trials[trial.number]._trial_id, None, result.message
        if result.state == "finished":
            summary = RunFolder(trial.run).read_summary()
            found = read_metrics(summary)
            values = [found.get(metric, math.nan) for metric in self.targets]
            if missing := [m for m, value in zip(self.targets, values, strict=True) if not math.isfinite(value)]:
                key = evaluation_of(missing[0])
                scored = summary["evaluation"].get(key, {"error": "the set does not fit the text and was left out"})
                why = scored.get("error", "it is not a finite number")
                values, error = None, f"the run has no {missing[0]}: {why}"
        with self.experiment.locked():  # so that others see the trial either as claimed or as ended
            if self.trials[trial.number].state.is_finished():
                pass  # the process that had taken it over has recorded it
            elif values is not None:
                self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)
            elif result.state == "pruned":
                last = list(self.trials[trial.number].intermediate_values.values())[-1:]
                self.storage.set_trial_state_values(trial_id, TrialState.PRUNED, last)
            elif result.state == "paused":
                error = self._record_rung(trial, error)  # before the heartbeat is released, or it would look dead
            elif result.state in ("finished", "failed", "diverged", "killed"):
                self.storage.set_trial_user_attr(trial_id, "error", error)
                self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            heartbeat.release_run(trial.run)
        RunFolder(trial.run).drop_checkpoints()
        if values is None and result.state in ("paused", "pruned"):
            return error  # which begins so
        if values is None:
            return f"{'failed' if result.state == 'finished' else result.state}: {error}"
        return "  ".join(f"{m} {format_short(v)}" for m, v in zip(self.targets, values, strict=True))

    def _record_rung(self, trial: StudyTrial, message: str) -> str:
        """Write the score of a trial at its rung, of a fork or of the trial, into the journal, and return a message."""
        from optuna.trial import TrialState

        recorded, target = self.trials[trial.number], self.targets[0]
        run, rung = RunFolder(trial.run), recorded.user_attrs[RUNG]
        forks = [fork for fork in run.read_forks() if fork["rung"] == rung]
        lines = [line for line in forks or run.read_metrics() if target in line]
        score = float(lines[-1][target]) if lines else math.nan  # it could not be evaluated, and has logged why
        if not math.isfinite(score):
            message = f"{message}: the run has no {target} there"
            self.storage.set_trial_user_attr(recorded._trial_id, "error", message)
            self.storage.set_trial_state_values(recorded._trial_id, TrialState.FAIL)
            return message
        self.storage.set_trial_intermediate_value(recorded._trial_id, int(lines[-1]["tokens"]), score)
        self.storage.set_trial_user_attr(recorded._trial_id, score_key(rung), score)
        return f"{message}, {target} {format_short(score)}"


def format_short(value: object) -> str:
    """Return a value for a log message, a float with 4 significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _running_trial(
    params: space.Params, distributions: dict[str, Any], about: dict[str, Any], kept: dict[str, Any]
) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial

    own = {name: distributions[name] for name in params}
    return create_trial(state=TrialState.RUNNING, params=params, distributions=own, user_attrs=about, system_attrs=kept)
