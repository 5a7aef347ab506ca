"""Hydra's multirun, `skiplight train -m model.dim=100,200`: every trial in a process and a folder of its own.

The launcher may be any of Hydra's: it runs `train_trial` for each combination, here, in other processes or in jobs of
Slurm, and that starts the training apart (skiplight.experiments.worker). So no two trials share a W&B run, one that
dies takes no other with it, and the same command with the same run_dir goes on with those that are not finished.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig

from skiplight.config import conf_dir
from skiplight.config.compose import check_overrides, compose, quote_value, register_schema
from skiplight.config.validate import from_mapping, run_options
from skiplight.errors import ConfigError, RunError, Stopped, command
from skiplight.experiments.processes import ProcessResult, run_apart
from skiplight.experiments.worker import train_folder
from skiplight.files import replacing
from skiplight.training.loggers import check_logger
from skiplight.training.run_folder import RunFolder, default_run_dir
from skiplight.training.signals import StopRequest

log = logging.getLogger(__name__)

OUTCOME = "outcome.json"
"""In the folder of a trial: how its last training ended."""


def multirun(arguments: Sequence[str]) -> int:
    """Trains every combination of the swept overrides; 0, as all are finished.

    Raises:
        RunError: a trial is not finished; all others are.
        ConfigError: an override is wrong, for any of the trials; none is then begun.
    """
    check_overrides(arguments)
    parser = OverridesParser.create()
    overrides = [parser.parse_override(argument) for argument in arguments]
    swept = [override for override in overrides if override.is_sweep_override()]
    plain = [o.input_line or "" for o in overrides if not o.is_sweep_override() and o.key_or_group != "run_dir"]
    config = compose([text for text in arguments if text in plain or text.startswith("run_dir=")])
    check_logger(config)
    values = [_check(override, plain) for override in swept]
    folder = Path(config.run_dir or default_run_dir(config)).resolve()
    group = [] if config.logger.group else [f"logger.group={quote_value(folder.name)}"]

    register_schema()
    before = sys.argv
    places = [f"run_dir={quote_value(str(folder))}", f"hydra.sweep.dir={quote_value(str(folder))}"]
    sys.argv = ["skiplight", "--multirun", *plain, *(o.input_line or "" for o in swept), *group, *places]
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(train_trial)()
    finally:
        sys.argv = before

    count = math.prod(len(found) for found in values)
    left = [n for n in range(count) if not RunFolder(folder / str(n)).summary.exists()]
    print(f"{count - len(left)} of {count} trials are finished; sum up with: {command('report', folder)}")
    if left:
        numbers = ", ".join(map(str, left))
        raise RunError(f"not finished: {numbers}; the same command with run_dir={folder} goes on")
    return 0


def _check(override: Override, plain: Sequence[str]) -> list[str]:
    """The values of a swept option or group, each tried."""
    if isinstance(override.value(), IntervalSweep):
        raise ConfigError(f"`{override.input_line}`: an interval is searched by `skiplight sweep`; give values here")
    values = list(override.sweep_string_iterator())
    if not values:
        raise ConfigError(f"`{override.input_line}` is an empty range")
    for value in values:
        compose([*plain, f"{override.get_key_element()}={value}"])
    return values


def train_trial(composed: DictConfig) -> dict[str, Any]:
    """Trains one trial; called by the launcher. How it ended, which is kept in its folder too.

    Raises:
        ConfigError: the folder has a run of other options.
        Stopped: a signal asked to stop; the trial has saved its state.
    """
    config = from_mapping(composed)
    assert config.run_dir is not None
    number = HydraConfig.get().job.num
    run = RunFolder(Path(config.run_dir) / str(number))
    config.run_dir = str(run.path)
    if not run.path.exists():
        run.create(config)
    elif run_options(run.config()) != run_options(config):
        raise ConfigError(f"{run.path} is a run of other options: choose another `run_dir`")
    elif run.summary.exists():
        log.info("trial %d is finished already: %s", number, run.path)
        return {"number": number, "state": "finished", "message": ""}
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        # A process of joblib's has its own way to start others, which a process that is started so does not know.
        multiprocessing.set_start_method("forkserver", force=True)
    stop = StopRequest()
    stop.install()
    try:
        outcome = run_apart(run.path, train_folder, stopping=lambda: stop.signal is not None)
    finally:
        stop.remove()
    _tell(run, number, outcome)
    if stop.signal is not None:
        raise Stopped(outcome.message, stop.signal)
    return {"number": number, "state": outcome.state, "message": outcome.message}


def _tell(run: RunFolder, number: int, outcome: ProcessResult) -> None:
    log.info("trial %d: %s", number, f"{outcome.state}: {outcome.message}" if outcome.message else run.path)
    try:
        with replacing(run.path / OUTCOME) as temporary:
            about = {"state": outcome.state, "message": outcome.message}
            temporary.write_text(json.dumps(about), encoding="utf-8")
    except OSError as error:
        log.warning("%s cannot be written: %s", run.path / OUTCOME, error.strerror)
