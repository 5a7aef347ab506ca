"""A study in its folder: study.yaml says what is searched, journal.log what became of the trials, `<number>/` is each.

Whoever holds the study's lock may give out a trial: first one whose process is dead, else a new one. All that decides
a new trial is what the journal holds, the study's seed and the trial's number, so that a study that was killed goes
on as if it had not been. A trial enters the journal with all its values, in one line.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from skiplight.config.schema import Config
from skiplight.config.validate import from_mapping, run_options
from skiplight.errors import ConfigError, RunError, UnwritableError
from skiplight.experiments import heartbeat
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.sweeps import space
from skiplight.experiments.sweeps.journal import open_storage
from skiplight.experiments.sweeps.metrics import judged_by, read_metrics
from skiplight.files import locked, replacing
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

FORMAT = 1
FILE, JOURNAL, NAME = "study.yaml", "journal.log", "study"

FREE = ("run_dir", "logger", "checkpoint", "trainer.devices")
"""Options in which the command that goes on with a study may differ from the one that began it."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A trial that this process is to train."""

    number: int
    params: space.Params
    run: Path


class Study:
    """An open study.

    Args:
        folder: where it lies.
        config: the options of its runs, and of the study.
    """

    def __init__(self, folder: Path, config: Config) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.config = folder, config
        self.metrics, self.directions = judged_by(config)
        self.space = space.distributions(config.study.space, config)
        self.points = space.grid(self.space) if config.study.sampler == "grid" else None
        try:
            self.storage = open_storage(folder / JOURNAL)
        except OSError as error:
            raise UnwritableError(f"{folder / JOURNAL} cannot be written: {error.strerror}") from None
        except ValueError as error:
            raise RunError(f"{folder / JOURNAL} is damaged ({error}): take it back from a copy") from None
        try:
            self.study = optuna.load_study(storage=self.storage, study_name=NAME)
        except KeyError:
            self.study = optuna.create_study(
                storage=self.storage, study_name=NAME, directions=self.directions, load_if_exists=True
            )

    @classmethod
    def begin(cls, folder: Path, config: Config) -> Study:
        """Makes the study, or opens it where it is, if it is the same.

        Raises:
            ConfigError: the search space or metric is wrong, or not what the study began with.
            UnwritableError: the folder cannot be written to.
        """
        found = space.distributions(config.study.space, config)
        judged_by(config)
        if config.study.sampler == "grid":
            space.grid(found)
        if (folder / "config.yaml").exists():
            raise RunError(f"`run_dir={folder}` is a run: give the study a folder of its own")
        run = run_options(config) | {"run_dir": None}
        about = {"format": FORMAT, "study": dataclasses.asdict(config.study), "run": run}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock", wait=lambda: None):
                if not (folder / FILE).exists():
                    with replacing(folder / FILE) as temporary:
                        temporary.write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), "utf-8")
        except OSError as error:
            raise UnwritableError(f"`run_dir={folder}` cannot be written: {error.strerror}; choose another") from None
        _refuse_other(folder, _flat(_read(folder)), _flat(about))
        return cls(folder, config)

    @classmethod
    def load(cls, folder: Path) -> Study:
        """Opens a study that there is.

        Raises:
            RunError: there is none in the folder.
        """
        about = _read(folder)
        return cls(folder, from_mapping(about["run"] | {"study": about["study"]}))

    @property
    def trials(self) -> list[optuna.trial.FrozenTrial]:
        """All trials, in order, as the journal has them now."""
        return self.study.get_trials(deepcopy=False)

    def run(self, number: int) -> Path:
        """The folder of a trial."""
        return self.folder / str(number)

    def claim(self, limit: int | None = None) -> Trial | None:
        """A trial to train: one whose process has died, or a new one; None where there are `limit` already.

        Raises:
            UnwritableError: the disk is full or read-only.
        """
        from optuna.trial import TrialState

        try:
            with locked(self.folder / ".lock", wait=lambda: None):
                trials = self.trials
                for found in trials:
                    if found.state == TrialState.RUNNING and heartbeat.holder(self.run(found.number)) is None:
                        return self._take(Trial(found.number, found.params, self.run(found.number)))
                number = len(trials)
                if self.points is not None:
                    limit = min(len(self.points), len(self.points) if limit is None else limit)
                if limit is not None and number >= limit:
                    return None
                params = self._params(trials)
                template = _new_trial(params, self.space)
                self.study.add_trial(template)
                return self._take(Trial(number, params, self.run(number)))
        except OSError as error:
            raise UnwritableError(
                f"{self.folder} cannot be written: {error.strerror}; then give the same command again"
            ) from None

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

    def _take(self, trial: Trial) -> Trial:
        if not RunFolder(trial.run).config_file.exists():
            config = space.apply_parameters(self.config, trial.params)
            config.run_dir = str(trial.run)
            config.logger.group = config.logger.group or self.folder.resolve().name
            RunFolder(trial.run).create(config)
        heartbeat.claim_run(trial.run)
        return trial

    def end(self, trial: Trial, outcome: ProcessResult) -> list[float] | None:
        """Writes down how a trial ended; the values of its metrics, if it is complete.

        One that was stopped, or has no room on the disk, stays open: the same command goes on with it.
        """
        from optuna.trial import TrialState

        trial_id, values, error = self.trials[trial.number]._trial_id, None, outcome.message
        if outcome.state == "finished":
            summary = json.loads(RunFolder(trial.run).summary.read_text(encoding="utf-8"))
            found = read_metrics(summary)
            values = [found.get(metric, math.nan) for metric in self.metrics]
            if missing := [m for m, value in zip(self.metrics, values, strict=True) if not math.isfinite(value)]:
                why = summary["evaluation"].get(missing[0].rpartition("/")[2], {}).get("error", "it is no number")
                values, error = None, f"the run has no {missing[0]}: {why}"
        try:
            if values is not None:
                self.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values)
            elif outcome.state == "pruned":
                last = list(self.trials[trial.number].intermediate_values.values())[-1:]
                self.storage.set_trial_state_values(trial_id, TrialState.PRUNED, last)
            elif outcome.state in ("finished", "failed", "killed"):
                self.storage.set_trial_user_attr(trial_id, "error", error)
                self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
            heartbeat.release_run(trial.run)
        except OSError as problem:
            raise UnwritableError(f"{self.folder} cannot be written: {problem.strerror}") from None
        return values


def _new_trial(params: space.Params, distributions: dict[str, Any]) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial

    return create_trial(state=TrialState.RUNNING, params=params, distributions=distributions)


def _read(folder: Path) -> dict[str, Any]:
    try:
        about = yaml.safe_load((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{folder} is not a study: it has no {FILE}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunError(f"{folder / FILE} cannot be read: {error}") from None
    if not isinstance(about, dict) or not {"format", "study", "run"} <= set(about):
        raise RunError(f"{folder / FILE} is not a study's")
    if about["format"] > FORMAT:
        raise RunError(f"{folder} is of format {about['format']}, newer than this skiplight reads: upgrade it")
    return about


def _flat(about: dict[str, Any]) -> dict[str, Any]:
    flat = {f"study.{name}": value for name, value in about["study"].items()}
    for name, value in about["run"].items():
        inner = {f"{name}.{key}": v for key, v in value.items()} if isinstance(value, dict) else {name: value}
        flat |= {key: v for key, v in inner.items() if key not in FREE and name not in FREE}
    return flat


def _refuse_other(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [name for name in now if now[name] != before.get(name)]
    if changed:
        name = changed[0]
        more = f" (and {', '.join(changed[1:])})" if changed[1:] else ""
        raise ConfigError(
            f"the study in {folder} began with `{name}={before.get(name)}`, not with {now[name]}{more}: its trials "
            "could not be compared; give the same options again, or another run_dir"
        )
