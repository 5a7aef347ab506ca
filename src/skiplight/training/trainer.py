"""The Trainer of a run: what the run decides itself, and the arguments that `trainer.*` passes on."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    EarlyStopping,
    LearningRateFinder,
    RichModelSummary,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.precision import DoublePrecision
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from skiplight.config.schema import Config, TrainerConfig
from skiplight.config.trainer_arguments import limits_batches, max_time
from skiplight.data.from_config import device_type
from skiplight.distributed.strategy import RankStrategy
from skiplight.errors import ConfigError
from skiplight.training.checkpoints import FolderCheckpointIO
from skiplight.training.module import SkipGramModule
from skiplight.training.targets import ALLOWED, EVALUATED

LOGGED = ("train/loss", "lr", "words_per_second")
"""The metrics that every run logs."""

PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler
}  # fmt: skip

PASSED_ON = (
    "fast_dev_run",
    "limit_train_batches",
    "log_every_n_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "deterministic",
    "detect_anomaly",
    "enable_progress_bar",
    "enable_autolog_hparams",
)
"""Options of `trainer.*` that Lightning's Trainer gets as they are."""


REFUSED: dict[type[lightning.Callback], str] = {
    BatchSizeFinder: "a batch is a block of tokens: give `data.block_tokens`",
    LearningRateFinder: "search the rate as in `skiplight sweep optim.lr=0.01,0.025,0.05`",
}
"""Callbacks of Lightning that a run refuses, with the remedy."""

LIGHTNING_LOGGERS = ("lightning.pytorch", "lightning.fabric")
"""Loggers whose level Lightning itself sets to INFO when it is imported."""


class _DoublePrecision(DoublePrecision):
    """Double precision for batches without floating-point numbers, whose containers Lightning could not copy."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_trainer(
    config: Config,
    folder: Path,
    *,
    callbacks: Sequence[lightning.Callback],
    loggers: Sequence[Logger],
    strategy: RankStrategy | None,
) -> lightning.Trainer:
    """Return the Trainer of a run.

    Args:
        config: all options, checked.
        folder: of the run.
        callbacks: all callbacks, in the order in which they are called.
        loggers: the loggers of this rank.
        strategy: the strategy of several ranks; None for one rank.
    """
    options = config.trainer
    passed = {name: getattr(options, name) for name in PASSED_ON}
    if options.overfit_batches:
        # The data module repeats the blocks. Lightning's own `overfit_batches` would replace its loader by one that
        # reads a data set in its order, which a stream of blocks has not.
        passed["limit_train_batches"] = options.overfit_batches
    shown = [RichModelSummary()] if options.enable_model_summary else []
    profiler = (
        PROFILERS[options.profiler](dirpath=folder / "profile", filename=options.profiler) if options.profiler else None
    )
    # The module ends a run by its tokens. Shortened epochs end it too, and averaging needs to know their number.
    counted = limits_batches(options) or any(map(averages_tables, callbacks))
    double = options.precision == "64-true"
    trainer = lightning.Trainer(
        accelerator=device_type(options.accelerator),
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=strategy or "auto",
        precision=None if double else options.precision,  # type: ignore[arg-type]
        max_epochs=options.max_epochs if counted and options.max_tokens is None else -1,
        max_time=max_time(options),
        callbacks=[*shown, *callbacks],
        plugins=[FolderCheckpointIO(), *([_DoublePrecision()] if double else [])],
        logger=list(loggers) or False,
        profiler=profiler,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,  # `Evaluation` evaluates, at intervals in tokens
        default_root_dir=folder,
        **passed,
    )
    trainer.limit_val_batches = 0  # `fast_dev_run` sets it
    # Lightning's own handlers would end a training without saving it, wait for other ranks inside a handler, and
    # under Slurm save and requeue in their own way; and it asks the ranks at every step whether one was called.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    return trainer


def averages_tables(callback: lightning.Callback) -> bool:
    """Return whether a callback replaces the tables by an average of them when training ends."""
    return isinstance(callback, StochasticWeightAveraging | WeightAveraging)


def check_callbacks(callbacks: Sequence[lightning.Callback], config: Config) -> None:
    """Check that callbacks can work in a run of these options.

    Raises:
        ConfigError: a run refuses one, or weights are to be averaged from a share of epochs whose number is not known.
    """
    for callback in callbacks:
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise ConfigError(f"{kind.__name__} is refused: {reason}")
    unknown = config.trainer.max_tokens is not None or config.data.streaming
    for callback in callbacks:
        if unknown and isinstance(getattr(callback, "_swa_epoch_start", None), float):
            raise ConfigError(
                "StochasticWeightAveraging: `swa_epoch_start` as a share of the epochs needs a stored text and"
                " `trainer.max_epochs`: give the number of an epoch"
            )


def check_monitors(callbacks: Sequence[lightning.Callback]) -> None:
    """Check that callbacks monitor metrics that a run logs; where one of another package may log, nothing is checked.

    Raises:
        ConfigError: a callback monitors another metric.
    """
    if any(type(callback).__module__.partition(".")[0] not in ALLOWED for callback in callbacks):
        return
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in LOGGED and not monitor.startswith(EVALUATED):
            near = difflib.get_close_matches(monitor, [*LOGGED, "heldout/loss", "heldout/perplexity"], n=1)
            raise ConfigError(
                f"{type(callback).__name__} monitors `{monitor}`{f' (did you mean {near[0]}?)' if near else ''}: give"
                f" {', '.join(LOGGED)}, heldout/loss, heldout/perplexity or evaluation/<set>"
            )


@contextlib.contextmanager
def naming_misuse(callbacks: Sequence[lightning.Callback]) -> Iterator[None]:
    """Say it in one line if callbacks do not fit each other or the run, or monitor what was not logged, such as a set
    that was left out.

    Raises:
        ConfigError: instead of Lightning's error.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(str(error)) from error
    except RuntimeError as error:
        if "more than one stateful callback" in str(error):
            raise ConfigError(str(error).partition(" Please")[0]) from None
        for callback in callbacks:
            monitor = getattr(callback, "monitor", None)
            if isinstance(callback, EarlyStopping) and f"`{monitor}` which is not available" in str(error):
                logged = ", ".join(re.findall("`([^` ]+)`", str(error).rpartition("following")[2]))
                raise ConfigError(
                    f"EarlyStopping monitors `{monitor}`, which was not logged in the first epoch: give one of {logged}"
                ) from None
        raise


def early_end(trainer: lightning.Trainer, module: SkipGramModule, options: TrainerConfig) -> str | None:
    """Return what has ended a training before its last token; None if nothing has."""
    if module.tokens >= module.total_tokens:
        return None
    for name in ("fast_dev_run", "overfit_batches", "limit_train_batches"):
        if value := getattr(options, name):
            return f"trainer.{name}={value}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Timer) and (left := callback.time_remaining()) is not None and left <= 0:
            return "Timer" if options.max_time is None else f"trainer.max_time={options.max_time}"
        if isinstance(callback, EarlyStopping) and callback.stopped_epoch:
            return f"EarlyStopping on {callback.monitor}"
    return "a callback"


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning tells at every training: the devices, and advice. A level that a user has set stays."""
    loggers = [log for log in map(logging.getLogger, LIGHTNING_LOGGERS) if log.level == logging.INFO]
    for log in loggers:
        log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for log in loggers:
            log.setLevel(logging.INFO)


@contextlib.contextmanager
def restored_determinism() -> Iterator[None]:
    """Leave torch's settings as they were: `trainer.deterministic` sets them for the whole process."""
    before: Any = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, variable = torch.backends.cudnn.benchmark, "CUBLAS_WORKSPACE_CONFIG"
    environment = os.environ.get(variable)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
        if environment is None:
            os.environ.pop(variable, None)
