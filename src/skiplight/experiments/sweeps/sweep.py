"""`skiplight sweep`: begins a study or goes on with it.

Several commands on one or many machines may work on the same study at once; each has one or several workers.
"""

from __future__ import annotations

import logging
from pathlib import Path

from skiplight.config.schema import Config
from skiplight.errors import ConfigError
from skiplight.experiments.executor import execute_trials
from skiplight.experiments.resources import claim_resources
from skiplight.experiments.sweeps.study import Study
from skiplight.training.loggers import check_logger

log = logging.getLogger(__name__)


def sweep(
    config: Config,
    folder: Path,
    *,
    trials: int | None = None,
    timeout: float | None = None,
    workers: int = 1,
    devices_per_trial: int | None = None,
) -> Study:
    """Begin a study or go on with it, until it has its trials.

    Args:
        config: the options of the runs and of the study.
        folder: the study's.
        trials: how many the study is to have, with those that it has; by default all points of a grid.
        timeout: seconds after which no other trial is begun.
        workers: how many trials are trained at once, here.
        devices_per_trial: GPUs for each; default: `trainer.devices`.

    Raises:
        ConfigError: an option is wrong, or the study began with others.
        UnwritableError: the disk is full or read-only; trials that are not complete stay open.
        Stopped: a signal asked to stop; the trials have saved their states.
    """
    if trials is not None and trials < 1:
        raise ConfigError(f"--trials {trials} must be at least 1")
    if trials is None and timeout is None and config.study.sampler != "grid":
        raise ConfigError(f"`study.sampler={config.study.sampler}` has no end: give --trials N, or --timeout SECONDS")
    check_logger(config)
    resources = claim_resources(config.trainer, workers, devices_per_trial)
    study = Study.create_or_load(folder, config, trials)
    if len(study.targets) > 1:
        log.info("two metrics, %s: the Pareto front is looked for, and no trial is pruned", " and ".join(study.targets))
    execute_trials(study, resources, timeout=timeout)
    return study
