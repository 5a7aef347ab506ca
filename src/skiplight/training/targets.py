"""Callbacks and loggers that options name by `_target_`, of Lightning, of skiplight and of plug-ins only."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

from skiplight.config.validate import check_own
from skiplight.errors import ConfigError
from skiplight.registry import TARGETS, is_ambiguous, plugin_modules

ALLOWED = ("lightning", "skiplight")
"""Packages whose callbacks and loggers any options may name, also those of somebody else's run."""

EVALUATED = ("heldout/", "validation/", "evaluation/")
"""The beginnings of metrics that an evaluation logs."""

T = TypeVar("T")


def make_callbacks(
    targets: Any, *, checkpoints: Path | None = None, has_logger: bool = True
) -> list[lightning.Callback]:
    """Return the callbacks of the option `callbacks`.

    Args:
        targets: by any name, a mapping with `_target_`, the dotted name of a class, and its keyword arguments; None for
            no callbacks.
        checkpoints: the folder of a ModelCheckpoint that names none.
        has_logger: whether the run has a logger besides metrics.jsonl.

    Raises:
        ConfigError: a target is not a callback of an allowed package, or cannot be made; nothing else is imported.
    """
    if targets is None:
        return []
    if not isinstance(targets, Mapping):
        raise ConfigError(f"`callbacks={targets}` must be a mapping, {{name: {{_target_: lightning...., ...}}}}")
    found = []
    for name, target in targets.items():
        if target is None:
            continue
        callback = make_target(f"callbacks.{name}", target, lightning.Callback, "callback", "callbacks.Timer")
        if type(callback).__name__ in ("LearningRateMonitor", "DeviceStatsMonitor") and not has_logger:
            raise ConfigError(
                f"`callbacks.{name}`: {type(callback).__name__} writes to a logger only: give one, as in `logger=csv`"
            )
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None and checkpoints is not None:
            callback.dirpath = str(checkpoints)
        found.append(callback)
    return found


def monitors_evaluation(callback: lightning.Callback) -> bool:
    """Return whether a callback monitors a metric that an evaluation logs."""
    monitor = getattr(callback, "monitor", None)
    return isinstance(monitor, str) and monitor.startswith(EVALUATED)


def find_target(where: str, target: Any, base: type[T], kind: str, example: str) -> tuple[type[T], dict[str, Any]]:
    """Return the class that a target names, and its keyword arguments.

    Args:
        where: the option, for messages.
        target: a mapping with `_target_` and the arguments.
        base: what the class must be derived from.
        kind: what it is called, for messages.
        example: a class below lightning.pytorch, for messages.

    Raises:
        ConfigError: it is no such class of an allowed package, where nothing else is imported; or an option of a
            registered one is of the wrong type or out of range.
    """
    if not isinstance(target, Mapping) or not isinstance(target.get("_target_"), str):
        raise ConfigError(f"`{where}={target}` needs `_target_`, as in `_target_: lightning.pytorch.{example}`")
    name = target["_target_"]
    options = {key: value for key, value in target.items() if key != "_target_"}
    if "_target_" in str(options):
        raise ConfigError(f"`{where}`: only a {kind} itself may have a `_target_`, not its arguments")
    module, _, attribute = name.rpartition(".")
    plugins = plugin_modules()
    if module.partition(".")[0] not in ALLOWED and module not in plugins:
        raise ConfigError(
            f"`{where}._target_={name}`: give a {kind} of {' or '.join(ALLOWED)}, or of a plug-in that is"
            " installed or that `plugins` names"
        )
    if is_ambiguous(module):
        raise ConfigError(
            f"`{where}._target_={name}`: several plug-ins are files called {module}.py: rename all but one"
        )
    try:
        found = getattr(importlib.import_module(plugins.get(module, module)), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"`{where}._target_={name}` is not there: {error}") from None
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ConfigError(f"`{where}._target_={name}` is no {kind} of Lightning")
    registry = TARGETS[where.partition(".")[0]]
    for entry in map(registry.__getitem__, registry):
        if entry.target is found:
            own = {field.name for field in dataclasses.fields(entry.options)}
            options |= check_own(where, entry, {key: options[key] for key in own & options.keys()})
    return found, options


def make_target(where: str, target: Any, base: type[T], kind: str, example: str, **defaults: Any) -> T:
    """Return the object that a target describes; `defaults` are arguments that it may override.

    Raises:
        ConfigError: as for `find_target`, or it cannot be made.
    """
    found, options = find_target(where, target, base, kind, example)
    try:
        return found(**(defaults | options))
    except Exception as error:
        raise ConfigError(f"`{where}`: {target['_target_']} cannot be made: {type(error).__name__}: {error}") from error
