"""A study: study.yaml says what is searched, journal.log holds the trials and their values, `<number>/` is each run.

Whoever holds the study's lock may give out a trial: first one whose process is dead, else a new one. All that decides
a new trial is what the journal holds, the study's seed and the trial's number, so that a study that was killed goes
on as if it had not been. A trial enters the journal with all its values, in one line.
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
from skiplight.experiments.metrics import read_metrics, study_targets
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.queue import Trial as ClaimedTrial
from skiplight.experiments.sweeps import space
from skiplight.experiments.sweeps.journal import open_storage
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    import optuna

JOURNAL, NAME = "journal.log", "study"


@dataclasses.dataclass(frozen=True)
class Trial(ClaimedTrial):
    """A trial that this process is to train, with the values of its options."""

    params: space.Params


class Study:
    """An open study, a queue of trials.

    Args:
        folder: where it lies.
        config: the options of its runs, and of the study.
        limit: how many trials it is to have; None for no end, or that of the grid.
    """

    def __init__(self, folder: Path, config: Config, limit: int | None = None) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.config = folder, config
        self.experiment = ExperimentFolder(folder, "study")
        self.targets, self.directions = study_targets(config)
        self.space = space.distributions(config.study.space, config)
        self.points = space.grid(self.space) if config.study.sampler == "grid" else None
        if self.points is not None:
            limit = min(len(self.points), len(self.points) if limit is None else limit)
        self.limit = limit
        try:
            self.storage = open_storage(folder / JOURNAL)
        except OSError as error:
            raise UnwritableError(f"{folder / JOURNAL} cannot be written: {error.strerror}") from None
        folders = [path for path in folder.glob("*/trial.json") if path.parent.name.isdecimal()]
        try:
            self.study = optuna.load_study(storage=self.storage, study_name=NAME)
        except KeyError:
            self.study = optuna.create_study(
                storage=self.storage, study_name=NAME, directions=self.directions, load_if_exists=True
            )
        # A trial is in the journal before its folder is made.
        count = len(self.trials)
        if lost := [number for path in folders if (number := int(path.parent.name)) >= count]:
            raise RunError(
                f"{folder / JOURNAL} is damaged: it has lost trial {max(lost)}, whose folder is there; take it back"
                " from a copy, or begin another study"
            )

    @classmethod
    def begin(cls, folder: Path, config: Config, limit: int | None = None) -> Study:
        """Make the study, or open it where it is, if it is the same.

        Raises:
            ConfigError: the search space or metric is wrong, or not what the study began with.
            RunError: the folder is something else.
            UnwritableError: the folder cannot be written to.
        """
        found = space.distributions(config.study.space, config)
        study_targets(config)
        if config.study.sampler == "grid":
            space.grid(found)
        run = run_options(config) | {"run_dir": None}
        ExperimentFolder(folder, "study").begin(run=run, study=dataclasses.asdict(config.study))
        return cls(folder, config, limit)

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Open a study that there is.

        Raises:
            RunError: there is none in the folder.
        """
        about = ExperimentFolder(folder, "study").read()
        return cls(folder, from_mapping(about["run"] | {"study": about["study"]}))

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials, in order, as the journal has them now."""
        return self.study.get_trials(deepcopy=False)

    def run(self, number: int) -> Path:
        """Return the folder of a trial."""
        return self.folder / str(number)

    def claim(self) -> Trial | None:
        """Claim a trial whose process has died, or a new one; None where there are as many as there are to be.

        Raises:
            UnwritableError: the disk is full or read-only.
        """
        from optuna.trial import TrialState

        with self.experiment.locked():
            trials = self.trials
            for found in trials:
                if found.state == TrialState.RUNNING and heartbeat.holder(self.run(found.number)) is None:
                    return self._take(found.number, found.params)
            number = len(trials)
            if self.limit is not None and number >= self.limit:
                return None
            params = self._params(trials)
            self.study.add_trial(_new_trial(params, self.space))
            return self._take(number, params)

    def is_waiting(self) -> bool:
        """Return False: what others train needs nobody else, and if they die the same command goes on."""
        return False

    def _params(self, trials: list[optuna.trial.FrozenTrial]) -> space.Params:
        """The values of the next trial; those of the grid come in order."""
        import numpy as np
        import optuna

        number = len(trials)
        if self.points is not None:
            return self.points[number]
        seed = int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0])
        if self.config.study.sampler == "random":
            sampler: Any = optuna.samplers.RandomSampler(seed)
        else:  # trials that run elsewhere count as poor ones, so that no two workers try the same
            sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        # In memory, since a journal would have the values of a trial one by one, and a killed process leave half.
        sketch = optuna.create_study(directions=self.directions, sampler=sampler)
        sketch.add_trials(trials)
        return sketch.ask(self.space).params

    def _take(self, number: int, params: space.Params) -> Trial:
        run = self.run(number)
        if not RunFolder(run).config_file.exists():
            self.experiment.create_run(run, space.apply_parameters(self.config, params), number)
        heartbeat.claim_run(run)
        detail = "  ".join(f"{name}={format_short(value)}" for name, value in params.items())
        return Trial(number, run, f"trial {number}", detail, params)

    def finish(self, trial: Trial, result: ProcessResult) -> str:
        """Write into the journal how a trial ended.

        One that was stopped, or has no room on the disk, stays open: the same command goes on with it.
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
                why = summary["evaluation"].get(missing[0].rpartition("/")[2], {}).get("error", "it is no number")
                values, error = None, f"the run has no {missing[0]}: {why}"
        with self.experiment.locked():  # whoever looks for a trial sees it either as claimed or as over
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
    """Return a value as a log line shows it, a float with 4 digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _new_trial(params: space.Params, distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial

    return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)
