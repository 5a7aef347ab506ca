"""The arguments of Lightning's Trainer in `trainer.*`: their values, and why a run refuses some of them.

Every argument of `lightning.Trainer` is either an option of `TrainerConfig` or in `REFUSED`; a test compares both with
the signature of the installed version. In a script with a Trainer of one's own, none of them is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from skiplight.config.schema import Config, TrainerConfig
from skiplight.errors import ConfigError

_VALIDATION = "a run evaluates by its own callback, at intervals in tokens"

REFUSED = {
    "strategy": "the engine decides how several devices train together: give `engine` and `trainer.devices`",
    "logger": "give `logger`, as in logger=[wandb,csv]",
    "callbacks": "give `callbacks`",
    "plugins": "precision is `trainer.precision`, checkpoints are written by the run, and skiplight's own plug-ins are"
    " `plugins=[...]`",
    "default_root_dir": "give `run_dir`",
    "min_epochs": "a stop request would have to wait for it: give a stopping callback more patience",
    "max_steps": "a run is measured in tokens: give `trainer.max_tokens`",
    "min_steps": "a stop request would have to wait for it: give a stopping callback more patience",
    "limit_val_batches": f"{_VALIDATION}: give `evaluation.heldout_pairs`",
    "limit_test_batches": f"{_VALIDATION}, and has no test loop: give `evaluation.heldout_pairs`",
    "limit_predict_batches": "a run has no prediction loop: leave it out",
    "val_check_interval": f"{_VALIDATION}: give `evaluation.every`",
    "check_val_every_n_epoch": f"{_VALIDATION}: give `evaluation.every`",
    "num_sanity_val_steps": f"{_VALIDATION}, and reads the evaluation sets at the first: leave it out",
    "enable_checkpointing": "a run can always be resumed: give `checkpoint.every` and `checkpoint.keep`",
    "benchmark": "there is no convolution whose algorithm cuDNN could choose: leave it out",
    "sync_batchnorm": "there is no batch normalisation: leave it out",
    "inference_mode": "it concerns Lightning's loops for validation and prediction, which a run has not: leave it out",
    "use_distributed_sampler": "the data module itself shares out the blocks over the ranks: leave it out",
    "barebones": "it turns off the callbacks that a run consists of: give `logger=none` and"
    " `trainer.enable_progress_bar=false`",
    "reload_dataloaders_every_n_epochs": "the blocks of an epoch are a function of the epoch already: leave it out",
    "model_registry": "it needs an account at Lightning AI: give `logger.wandb.artifact=true`, or export the vectors",
}
"""Arguments of the Trainer that a run refuses, with the reason and the remedy."""


def check_trainer(config: Config) -> None:
    """Check the arguments of the Trainer whose values are of several types, and those that contradict each other.

    Raises:
        ConfigError: names the option, its value and the remedy.
    """
    options = config.trainer
    _check_batches("fast_dev_run", options.fast_dev_run, or_bool=True)
    _check_batches("limit_train_batches", options.limit_train_batches)
    _check_batches("overfit_batches", options.overfit_batches)
    if options.deterministic not in (True, False, "warn") or isinstance(options.deterministic, int | float) is not (
        isinstance(options.deterministic, bool)
    ):
        raise ConfigError(f"`trainer.deterministic={options.deterministic}` must be true, false or warn")
    if options.gradient_clip_algorithm is not None and options.gradient_clip_val is None:
        raise ConfigError(
            f"`trainer.gradient_clip_algorithm={options.gradient_clip_algorithm}` needs `trainer.gradient_clip_val`"
        )
    limits = {name: getattr(options, name) for name in ("fast_dev_run", "limit_train_batches", "overfit_batches")}
    if len(given := [f"`trainer.{name}={value}`" for name, value in limits.items() if value]) > 1:
        raise ConfigError(f"{' and '.join(given)} contradict each other: give one of them")
    if options.max_tokens is not None and given and not options.fast_dev_run:
        raise ConfigError(f"{given[0]} and `trainer.max_tokens` contradict each other: give `trainer.max_epochs`")
    max_time(options)


def _check_batches(name: str, value: Any, *, or_bool: bool = False) -> None:
    if value is None or (or_bool and isinstance(value, bool)):
        return
    share = isinstance(value, float) and 0 <= value <= 1 and not or_bool
    if isinstance(value, bool) or not (share or (isinstance(value, int) and value >= 0)):
        wanted = "true, false or a number of batches" if or_bool else "a number of batches, or a share from 0.0 to 1.0"
        raise ConfigError(f"`trainer.{name}={value}` must be {wanted}")
    if name == "limit_train_batches" and value == 0:
        raise ConfigError(f"`trainer.{name}={value}` trains on nothing: give at least one batch")


def max_time(options: TrainerConfig) -> timedelta | None:
    """Return `trainer.max_time` as a duration; None without a limit.

    Raises:
        ConfigError: it is neither DD:HH:MM:SS nor a mapping of units to numbers.

    >>> print(max_time(TrainerConfig(max_time="00:08:30:00")))
    8:30:00
    """
    value = options.max_time
    if value is None:
        return None
    try:
        if isinstance(value, str):
            days, hours, minutes, seconds = map(int, value.split(":"))
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if isinstance(value, Mapping) and value:
            duration = timedelta(**{str(unit): float(number) for unit, number in value.items()})
            if math.isfinite(duration.total_seconds()) and duration > timedelta(0):
                return duration
    except (TypeError, ValueError, OverflowError):
        pass
    raise ConfigError(
        f"`trainer.max_time={value}` must be DD:HH:MM:SS, as in 00:08:00:00, or a mapping such as {{hours: 8}}"
    )


def limits_batches(options: TrainerConfig) -> bool:
    """Return whether an epoch of the run is less than a pass over the text."""
    limit = options.limit_train_batches
    whole = limit is None or (isinstance(limit, float) and limit == 1)
    return bool(options.fast_dev_run or options.overfit_batches) or not whole
