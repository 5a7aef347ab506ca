"""Hydra's multirun, `skiplight train -m model.dim=100,200`: every combination is a run in RUN_DIR/<number>.

By default the executor trains them, `--workers N` at once. With `hydra/launcher=...` any of Hydra's launchers calls
`train_trial` for each, here, in other processes or in jobs of Slurm, and that hands its one trial to the executor. The
same command with the same run_dir goes on with the trials that are not finished.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from skiplight.config.compose import (
    check_overrides,
    choose_groups,
    compose,
    named_plugins,
    quote_value,
    run_hydra,
)
from skiplight.config.flags import split_flags
from skiplight.config.schema import Config
from skiplight.config.validate import from_mapping, run_options
from skiplight.errors import ConfigError, RunError, command
from skiplight.experiments import heartbeat
from skiplight.experiments.executor import execute
from skiplight.experiments.folder import ExperimentFolder, flat_options, is_free
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.queue import Trial
from skiplight.experiments.resources import Resources, claim_resources
from skiplight.registry import load_plugins
from skiplight.training.loggers import check_logger
from skiplight.training.run_folder import RunFolder, default_run_dir

log = logging.getLogger(__name__)


class Multirun:
    """The runs of a multirun, a queue of trials.

    Args:
        folder: where they lie.
        configs: the options of each run, by number.
        details: what each tries, for messages.

    Raises:
        ConfigError: the folder has a run of one of these numbers with other options.
    """

    def __init__(self, folder: Path, configs: Mapping[int, Config], details: Mapping[int, str]) -> None:
        self.folder, self.configs, self.details = folder, configs, details
        self.experiment = ExperimentFolder(folder, "multirun")
        self.ended: dict[int, ProcessResult] = {}
        for number, config in configs.items():
            run = self.run(number)
            if run.path.exists() and _lasting(run.config()) != _lasting(config):
                raise ConfigError(f"{run.path} is a run of other options: choose another `run_dir`")
            if run.summary.exists():
                log.info("trial %d is finished already: %s", number, run.path)
                self.ended[number] = ProcessResult("finished")

    def run(self, number: int) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.folder / str(number))

    def claim(self) -> Trial | None:
        """Claim the next run that is neither finished nor trained by another process.

        Raises:
            UnwritableError: the folder cannot be written to.
        """
        with self.experiment.locked():
            for number in [number for number in self.configs if number not in self.ended]:
                run = self.run(number)
                if not run.path.exists():
                    self.experiment.create_run(run.path, self.configs[number], number)
                elif (holder := heartbeat.holder(run.path)) is not None:
                    log.info("trial %d is being trained by %s", number, holder)
                    self.ended[number] = ProcessResult("stopped", f"it is being trained by {holder}")
                    continue
                heartbeat.claim_run(run.path)
                self.ended[number] = ProcessResult("stopped", "it is being trained")
                return Trial(number, run.path, f"trial {number}", self.details[number])
        return None

    def is_waiting(self) -> bool:
        """Return False: the runs are known from the beginning, and each is tried once."""
        return False

    def finish(self, trial: Trial, result: ProcessResult) -> str:
        """Keep how a run ended, until the same command is given again."""
        with self.experiment.locked():
            heartbeat.release_run(trial.run)
        self.ended[trial.number] = result
        return f"{result.state}: {result.message}" if result.message else str(trial.run)


def _lasting(config: Config) -> dict[str, Any]:
    """The options that must be the same where a run goes on."""
    return {name: value for name, value in flat_options(run_options(config)).items() if not is_free(name)}


def multirun(arguments: Sequence[str], *, workers: int | None = None, devices_per_trial: int | None = None) -> None:
    """Train every combination of the swept overrides.

    Args:
        arguments: overrides, of which those with several values are swept; `hydra/launcher=` chooses one of Hydra's.
        workers: how many runs are trained at once, here (1).
        devices_per_trial: GPUs for each; default: `trainer.devices`.

    Raises:
        RunError: a trial is not finished; all others are.
        ConfigError: an override is wrong, for any of the trials; none is then begun.
    """
    source, arguments = split_flags(arguments)
    arguments, flags = choose_groups(arguments), source.flags
    load_plugins(named_plugins(arguments))
    parser = OverridesParser.create()
    fixed = [argument for argument in arguments if not _is_sweep(parser, argument)]
    config = compose([*flags, *fixed])  # which loads the plug-ins that a config file names
    check_overrides([*flags, *arguments])
    overrides = [parser.parse_override(argument) for argument in arguments]
    swept = [override for override in overrides if override.is_sweep_override()]
    plain = [o.input_line or "" for o in overrides if not o.is_sweep_override() and o.key_or_group != "run_dir"]
    plain = [*flags, *plain]
    check_logger(config)
    combinations = list(itertools.product(*(_values(override, plain) for override in swept)))
    folder = Path(config.run_dir or default_run_dir(config)).resolve()
    experiment = ExperimentFolder(folder, "multirun")
    if any(text.startswith(("hydra/", "hydra.")) for text in plain):
        if workers is not None or devices_per_trial is not None:
            raise ConfigError("--workers and --devices-per-trial are for the executor: leave them or `hydra/...=` out")
        experiment.begin()
        _launch([*plain, *(o.input_line or "" for o in swept)], folder)
    else:
        owned = claim_resources(config.trainer, workers or 1, devices_per_trial)
        shared = [f"trainer.devices={config.trainer.devices}", *plain]
        configs = {number: compose([*shared, *values]) for number, values in enumerate(combinations)}
        experiment.begin()
        details = {number: "  ".join(values) for number, values in enumerate(combinations)}
        execute(Multirun(folder, configs, details), owned)
    count = len(combinations)
    left = [n for n in range(count) if not RunFolder(folder / str(n)).summary.exists()]
    print(f"{count - len(left)} of {count} trials are finished; sum up with: {command('report', folder)}")
    if left:
        numbers = ", ".join(map(str, left))
        raise RunError(f"not finished: {numbers}; the same command with run_dir={folder} goes on")


def _is_sweep(parser: OverridesParser, argument: str) -> bool:
    try:
        return parser.parse_override(argument).is_sweep_override()
    except HydraException:
        return False  # composing says what is wrong with it


def _values(override: Override, plain: Sequence[str]) -> list[str]:
    """The overrides that a swept one stands for, each tried."""
    if isinstance(override.value(), IntervalSweep):
        raise ConfigError(f"`{override.input_line}`: an interval is searched by `skiplight sweep`; give values here")
    values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise ConfigError(f"`{override.input_line}` is an empty range")
    for value in values:
        compose([*plain, value])
    return values


def _launch(overrides: list[str], folder: Path) -> None:
    """Have Hydra's launcher call `train_trial` for each combination."""
    places = [f"run_dir={quote_value(str(folder))}", f"hydra.sweep.dir={quote_value(str(folder))}"]
    if code := run_hydra(["--multirun", *overrides, *places], train_trial):
        raise SystemExit(code)


def train_trial(composed: DictConfig) -> dict[str, Any]:
    """Train one trial; called by Hydra's launcher. Return how it ended, which is kept in its folder too.

    Raises:
        ConfigError: the folder has a run of other options.
        Stopped: a signal asked to stop; the trial has saved its state.
    """
    config = from_mapping(composed)
    assert config.run_dir is not None
    job = HydraConfig.get().job
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        # A process of joblib's has its own way to start others, which a process that is started so does not know.
        multiprocessing.set_start_method("forkserver", force=True)
    trials = Multirun(Path(config.run_dir), {job.num: config}, {job.num: f"of {config.run_dir}"})
    execute(trials, [Resources()])
    result = trials.ended[job.num]
    return {"number": job.num, "state": result.state, "message": result.message}
