"""A study: study.yaml has its options, journal.log the trials and their results, and `<number>/` is the run of a trial.

The process that holds the study's lock may claim a trial: one whose process has died, or else a new one. A new trial is
a function of the journal, the study's seed and the trial's number, so a study that was killed continues as if it had
not been. A trial is appended to the journal with all its values in one line.
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
from skiplight.experiments.queue import ClaimedTrial
from skiplight.experiments.sweeps import space
from skiplight.experiments.sweeps.journal import open_storage
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
        limit: number of trials; default: unlimited, or all points of a grid.
    """

    def __init__(self, folder: Path, config: Config, limit: int | None = None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.config = folder, config
        self.experiment = ExperimentFolder(folder, "study")
        self.targets, self.directions = study_targets(config)
        self.space = space.build_distributions(config.study.space, config)
        self.points = space.grid_points(self.space) if config.study.sampler == "grid" else None
        if self.points is not None:
            limit = min(len(self.points), len(self.points) if limit is None else limit)
        self.limit = limit
        try:
            self.storage = open_storage(folder / JOURNAL_FILE)
        except OSError as error:
            raise UnwritableError(f"{folder / JOURNAL_FILE} cannot be written: {error.strerror}") from None
        folders = [path for path in folder.glob("*/trial.json") if path.parent.name.isdecimal()]
        try:
            self.study = optuna.load_study(storage=self.storage, study_name=STUDY_NAME)
        except KeyError:
            self.study = optuna.create_study(
                storage=self.storage, study_name=STUDY_NAME, directions=self.directions, load_if_exists=True
            )
        # A trial is in the journal before its folder is made.
        count = len(self.trials)
        if lost := [number for path in folders if (number := int(path.parent.name)) >= count]:
            raise RunError(
                f"{folder / JOURNAL_FILE} is damaged: it has lost trial {max(lost)}, whose folder exists; restore it"
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
        study_targets(config)
        if config.study.sampler == "grid":
            space.grid_points(found)
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
        """Claim a trial whose process has died, or a new one; return None if the study has all its trials.

        Raises:
            UnwritableError: the disk is full or read-only.
        """
        from optuna.trial import TrialState

        with self.experiment.locked():
            trials = self.trials
            for found in trials:
                if found.state == TrialState.RUNNING and heartbeat.find_holder(self.run(found.number)) is None:
                    return self._claim(found.number, found.params)
            number = len(trials)
            if self.limit is not None and number >= self.limit:
                return None
            params = self._suggest(trials)
            self.study.add_trial(_running_trial(params, self.space))
            return self._claim(number, params)

    def is_waiting(self) -> bool:
        """Return False: no trial depends on those of other processes, and the same command resumes one that dies."""
        return False

    def _suggest(self, trials: list[optuna.trial.FrozenTrial]) -> space.Params:
        """Return the values of the next trial: of a grid the next point, else those that Optuna's sampler suggests."""
        import numpy as np
        import optuna

        number = len(trials)
        if self.points is not None:
            return self.points[number]
        seed = int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0])
        if self.config.study.sampler == "random":
            sampler: Any = optuna.samplers.RandomSampler(seed)
        else:  # running trials count as poor ones, so that workers do not try the same values
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        # In memory, since in a journal `ask` writes a line per value, and a killed process could leave only some.
        in_memory = optuna.create_study(directions=self.directions, sampler=sampler)
        in_memory.add_trials(trials)
        return in_memory.ask(self.space).params

    def _claim(self, number: int, params: space.Params) -> StudyTrial:
        run = self.run(number)
        if not RunFolder(run).config_file.exists():
            self.experiment.create_run(run, space.apply_parameters(self.config, params), number)
        heartbeat.claim_run(run)
        detail = "  ".join(f"{name}={format_short(value)}" for name, value in params.items())
        return StudyTrial(number, run, f"trial {number}", detail, params)

    def finish(self, trial: StudyTrial, result: ProcessResult) -> str:
        """Write the result of a trial into the journal, and return a message to log.

        A trial that was stopped, or whose disk is full, stays running in the journal: the same command resumes it.
        """
        from optuna.trial import TrialState

        if result.state == "busy":  # its heartbeat stays, so that this command does not try it again
            return result.message
        trial_id, values, error = self.trials[trial.number]._trial_id, None, result.message
        if result.state == "finished":
            summary = RunFolder(trial.run).read_summary()
            found = read_metrics(summary)
            values = [found.get(metric, math.nan) for metric in self.targets]
            if missing := [m for m, value in zip(self.targets, values, strict=True) if not math.isfinite(value)]:
                key = evaluation_of(missing[0])
                why = summary["evaluation"].get(key, {}).get("error", "it is not a finite number")
                values, error = None, f"the run has no {missing[0]}: {why}"
        with self.experiment.locked():  # so that others see the trial either as claimed or as ended
            if self.trials[trial.number].state.is_finished():
                pass  # the process that had taken it over has recorded it
            elif values is not None:
                self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)
            elif result.state == "pruned":
                last = list(self.trials[trial.number].intermediate_values.values())[-1:]
                self.storage.set_trial_state_values(trial_id, TrialState.PRUNED, last)
            elif result.state in ("finished", "failed", "diverged", "killed"):
                self.storage.set_trial_user_attr(trial_id, "error", error)
                self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            heartbeat.release_run(trial.run)
        RunFolder(trial.run).drop_checkpoints()
        if values is None:
            return f"{'failed' if result.state == 'finished' else result.state}: {error}"
        return "  ".join(f"{m} {format_short(v)}" for m, v in zip(self.targets, values, strict=True))


def format_short(value: object) -> str:
    """Return a value for a log message, a float with 4 significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _running_trial(params: space.Params, distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial

    return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
