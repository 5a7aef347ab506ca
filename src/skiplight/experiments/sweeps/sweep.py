"""`skiplight sweep`: start or continue a study.

Several commands, on one machine or many, can work on the same study at once, each with one or several workers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from skiplight.config.compose import compose
from skiplight.config.schema import Config
from skiplight.config.unread import check_read
from skiplight.errors import ConfigError
from skiplight.experiments.executor import execute_trials
from skiplight.experiments.resources import claim_resources
from skiplight.experiments.run_server import run_server
from skiplight.experiments.sweeps.conditions import possible_runs
from skiplight.experiments.sweeps.space import split_overrides
from skiplight.experiments.sweeps.study import Study
from skiplight.training.build import read_evaluations
from skiplight.training.loggers import check_logger
from skiplight.training.run_folder import default_run_dir

log = logging.getLogger(__name__)


def compose_study(overrides: Sequence[str], run_dir: str | Path | None = None) -> tuple[Config, Path]:
    """Return the options of a study, with its search space, and its folder.

    Args:
        overrides: Hydra overrides; those with several values, such as `noise.exponent=interval(-1,1)`, are searched.
        run_dir: the folder; default: the option `run_dir`, else runs/<time>-<data>.

    Raises:
        ConfigError: an option is wrong.
    """
    fixed, space = split_overrides(overrides)
    config = compose(fixed)
    config.study.space = {**(config.study.space or {}), **space}
    check_read(fixed, possible_runs(config.study.space, config), "sweep")
    return config, Path(run_dir or config.run_dir or default_run_dir(config))


def check_end(config: Config, trials: int | None, timeout: float | None) -> None:
    """Check that a command ends.

    Raises:
        ConfigError: it has no end.
    """
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials {trials} must be at least 1")
    if trials is None and timeout is None and config.study.sampler != "grid":
        raise ConfigError(f"`study.sampler={config.study.sampler}` has no end: give --trials N, or --timeout SECONDS")


def sweep(
    config: Config,
    folder: Path,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    workers: int = 1,
    devices_per_trial: int | None = None,
) -> Study:
    """Start or continue a study until it has all its trials, and return it.

    Args:
        config: the options of the runs and of the study.
        folder: folder of the study.
        trials: total number of trials, or of points with `study.seeds` trials each, including those that the study has
            already; default: all points of a grid.
        timeout: seconds after which no further trial is started.
        workers: number of trials that are trained at once by this command.
        devices_per_trial: GPUs per trial; default: `trainer.devices`.

    Raises:
        ConfigError: an option is wrong, or the study began with other options.
        UnwritableError: the disk is full or read-only; unfinished trials can be resumed.
        Stopped: a signal requested a stop; the trials have saved their state.
    """
    check_end(config, trials, timeout)
    check_logger(config)
    read_evaluations(config)
    run_server()
    resources = claim_resources(config.trainer, workers, devices_per_trial)
    study = Study.create_or_load(folder, config, trials)
    if len(study.targets) > 1:
        log.info(
            "two metrics, %s: the study searches for the Pareto front, and no trial is pruned",
            " and ".join(study.targets),
        )
    execute_trials(study, resources, timeout=timeout)
    return study
