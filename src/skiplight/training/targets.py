"""Callbacks that the option `callbacks` names by `_target_`, of Lightning, of skiplight and of plug-ins only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import lightning

from skiplight.errors import ConfigError
from skiplight.registry import plugin_modules

ALLOWED = ("lightning", "skiplight")
"""Packages whose callbacks any options may name, also those of somebody else's run."""


def make_callbacks(targets: Any) -> list[lightning.Callback]:
    """Return the callbacks of the option `callbacks`.

    Args:
        targets: by any name, a mapping with `_target_`, the dotted name of a class, and its keyword arguments; None for
            no callbacks.

    Raises:
        ConfigError: a target is not a callback of an allowed package, or cannot be made; nothing else is imported.
    """
    if targets is None:
        return []
    if not isinstance(targets, Mapping):
        raise ConfigError(f"`callbacks={targets}` must be a mapping, {{name: {{_target_: lightning...., ...}}}}")
    return [_make(f"callbacks.{name}", target) for name, target in targets.items() if target is not None]


def _make(where: str, target: Any) -> lightning.Callback:
    if not isinstance(target, Mapping) or not isinstance(target.get("_target_"), str):
        raise ConfigError(f"`{where}={target}` needs `_target_`, as in `_target_: lightning.pytorch.callbacks.Timer`")
    name = target["_target_"]
    options = {key: value for key, value in target.items() if key != "_target_"}
    if "_target_" in str(options):
        raise ConfigError(f"`{where}`: only a callback itself may have a `_target_`, not its arguments")
    module, _, attribute = name.rpartition(".")
    plugins = plugin_modules()
    if module.partition(".")[0] not in ALLOWED and module not in plugins:
        raise ConfigError(
            f"`{where}._target_={name}`: give a callback of {' or '.join(ALLOWED)}, or of a plug-in that is"
            " installed or that `plugins` names"
        )
    try:
        found = getattr(importlib.import_module(plugins.get(module, module)), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"`{where}._target_={name}` is not there: {error}") from None
    if not (isinstance(found, type) and issubclass(found, lightning.Callback)):
        raise ConfigError(f"`{where}._target_={name}` is no callback of Lightning")
    try:
        return found(**options)
    except Exception as error:
        raise ConfigError(f"`{where}`: {name} cannot be made: {type(error).__name__}: {error}") from error
