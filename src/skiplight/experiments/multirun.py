"""Hydra's multirun, `skiplight train -m model.dim=100,200`: every combination is a run in RUN_DIR/<number>.

By default the executor trains the runs, `--workers N` at once. With `hydra/launcher=...`, one of Hydra's launchers
calls `train_trial` for each run, in this process, in others or in Slurm jobs, and `train_trial` passes its run to the
executor. The same command with the same run_dir resumes the trials that are not finished.
"""

from __future__ import annotations

import itertools
import logging
import math
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
from skiplight.config.unread import check_read
from skiplight.config.validate import from_mapping
from skiplight.errors import ConfigError, RunError, command
from skiplight.experiments import heartbeat
from skiplight.experiments.executor import execute_trials
from skiplight.experiments.folder import ExperimentFolder, fixed_options
from skiplight.experiments.metrics import available_metrics, is_maximised, read_metrics
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.queue import ClaimedTrial, QueueProgress
from skiplight.experiments.resources import Resources, claim_resources
from skiplight.experiments.run_server import run_server
from skiplight.registry import load_plugins
from skiplight.training.build import read_evaluations
from skiplight.training.loggers import check_logger
from skiplight.training.run_folder import RunFolder, default_run_dir

log = logging.getLogger(__name__)


class Multirun:
    """A queue of the runs of a multirun, each of which is a trial.

    Args:
        folder: folder of the multirun.
        configs: the options of each run, by number.
        details: the options that each run tries, for messages, by number.

    Raises:
        ConfigError: a run with one of these numbers exists with other options.
    """

    def __init__(self, folder: Path, configs: Mapping[int, Config], details: Mapping[int, str]) -> None:
        self.folder, self.configs, self.details = folder, configs, details
        self.experiment = ExperimentFolder(folder, "multirun")
        self.results: dict[int, ProcessResult] = {}
        self.metric = available_metrics(next(iter(configs.values())))[0]
        self._scores: dict[int, float] = {}
        for number, config in configs.items():
            run_folder = self.run_folder(number)
            if run_folder.path.exists() and fixed_options(run_folder.config()) != fixed_options(config):
                raise ConfigError(f"{run_folder.path} is a run with other options: choose another `run_dir`")
            if run_folder.summary.exists():
                log.info("trial %d is finished already: %s", number, run_folder.path)
                self.results[number] = ProcessResult("finished")

    def run_folder(self, number: int) -> RunFolder:
        """Return the folder of a run."""
        return RunFolder(self.folder / str(number))

    def claim(self) -> ClaimedTrial | None:
        """Claim the next run that is neither finished nor trained by another process.

        Raises:
            UnwritableError: the folder cannot be written to.
        """
        with self.experiment.locked():
            for number in [number for number in self.configs if number not in self.results]:
                run_folder = self.run_folder(number)
                if not run_folder.path.exists():
                    self.experiment.create_run(run_folder.path, self.configs[number], number)
                elif (holder := heartbeat.find_holder(run_folder.path)) is not None:
                    log.info("trial %d is being trained by %s", number, holder)
                    self.results[number] = ProcessResult("stopped", f"it is being trained by {holder}")
                    continue
                heartbeat.claim_run(run_folder.path)
                self.results[number] = ProcessResult("stopped", "it is being trained")
                return ClaimedTrial(number, run_folder.path, f"trial {number}", self.details[number])
        return None

    def is_waiting(self) -> bool:
        """Return False, since all runs are known from the start, and each is claimed once."""
        return False

    def progress(self) -> QueueProgress:
        """Return how many runs of this command are finished, and the best of them."""
        finished = [number for number, result in list(self.results.items()) if result.state == "finished"]
        for number in set(finished) - self._scores.keys():
            metrics = read_metrics(self.run_folder(number).read_summary())
            self._scores[number] = metrics.get(self.metric, math.nan)
        sign = -1 if is_maximised(self.metric) else 1
        scored = [(sign * score, number) for number, score in self._scores.items() if math.isfinite(score)]
        best = ""
        if scored:
            signed, number = min(scored)
            best = f"trial {number}, {self.metric} {sign * signed:.4g}"
        count = len(self.configs)
        return QueueProgress(f"{len(finished)} of {count} trials are finished", len(finished) / count, best)

    def finish(self, trial: ClaimedTrial, result: ProcessResult) -> str:
        """Record how a run ended, for the rest of this command."""
        with self.experiment.locked():
            heartbeat.release_run(trial.run)
        self.results[trial.number] = result
        return f"{result.state}: {result.message}" if result.message else str(trial.run)


def multirun(arguments: Sequence[str], *, workers: int | None = None, devices_per_trial: int | None = None) -> None:
    """Train every combination of the swept overrides.

    Args:
        arguments: overrides, of which those with several values are swept; `hydra/launcher=` chooses a Hydra launcher.
        workers: number of runs that are trained at once by this command; default: 1.
        devices_per_trial: GPUs per run; default: `trainer.devices`.

    Raises:
        RunError: some trials failed or were stopped, after all others finished.
        ConfigError: an override is wrong for one of the trials; then none is started.
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
    read_evaluations(config)
    combinations = list(itertools.product(*(_expand_override(override, plain) for override in swept)))
    folder = Path(config.run_dir or default_run_dir(config)).resolve()
    experiment = ExperimentFolder(folder, "multirun")
    if any(text.startswith(("hydra/", "hydra.")) for text in plain):
        if workers is not None or devices_per_trial is not None:
            raise ConfigError("--workers and --devices-per-trial are for the executor: omit them, or omit `hydra/...=`")
        experiment.create_or_check()
        _launch_with_hydra([*plain, *(o.input_line or "" for o in swept)], folder)
    else:
        run_server()
        resources = claim_resources(config.trainer, workers or 1, devices_per_trial)
        shared = [f"trainer.devices={config.trainer.devices}", *plain]
        configs = {number: compose([*shared, *values]) for number, values in enumerate(combinations)}
        check_read(arguments, configs.values(), "train")
        experiment.create_or_check()
        details = {number: "  ".join(values) for number, values in enumerate(combinations)}
        execute_trials(Multirun(folder, configs, details), resources)
    count = len(combinations)
    left = [n for n in range(count) if not RunFolder(folder / str(n)).summary.exists()]
    print(f"{count - len(left)} of {count} trials are finished; summarise them with: {command('report', folder)}")
    if left:
        numbers = ", ".join(map(str, left))
        raise RunError(f"not finished: {numbers}; the same command with `run_dir={folder}` resumes them")


def _is_sweep(parser: OverridesParser, argument: str) -> bool:
    """Return whether an override has several values."""
    try:
        return parser.parse_override(argument).is_sweep_override()
    except HydraException:
        return False  # composing says what is wrong with it


def _expand_override(override: Override, plain: Sequence[str]) -> list[str]:
    """Return an override for each value of a swept one, after checking that each composes."""
    if isinstance(override.value(), IntervalSweep):
        raise ConfigError(
            f"`{override.input_line}`: an interval is searched by `skiplight sweep`; a multirun needs values"
        )
    values = [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
    if not values:
        raise ConfigError(f"`{override.input_line}` is an empty range: it has no values")
    for value in values:
        compose([*plain, value])
    return values


def _launch_with_hydra(overrides: list[str], folder: Path) -> None:
    """Let Hydra's launcher call `train_trial` for each combination."""
    folders = [f"run_dir={quote_value(str(folder))}", f"hydra.sweep.dir={quote_value(str(folder))}"]
    if code := run_hydra(["--multirun", *choose_groups(overrides), *folders], train_trial):
        raise SystemExit(code)


def train_trial(composed: DictConfig) -> dict[str, Any]:
    """Train one trial, for Hydra's launcher, and return its number, state and message.

    Raises:
        ConfigError: the trial's folder is a run with other options.
        Stopped: a signal requested a stop; the trial has saved its state.
    """
    config = from_mapping(composed)
    assert config.run_dir is not None
    job = HydraConfig.get().job
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        # joblib sets a start method of its own, which the run server would not know.
        multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    run_server()
    trials = Multirun(Path(config.run_dir), {job.num: config}, {job.num: f"of {config.run_dir}"})
    execute_trials(trials, [Resources()], live=False)  # the launcher may run several at once
    result = trials.results[job.num]
    return {"number": job.num, "state": result.state, "message": result.message}
