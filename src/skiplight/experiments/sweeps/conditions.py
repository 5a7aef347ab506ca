"""Conditional search spaces: swept options that some of the swept names do not read.

Noise is read where the objective draws noise, and an option of an objective, a noise distribution, a schedule or a
source by the names that have it. A point does not have the options that it would not read, so that no sampler learns
from them, and no two points differ in them only.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from skiplight.config.schema import CHOSEN, Config
from skiplight.config.unread import DECIDING, Get, why_unread
from skiplight.config.validate import get_option, own_names
from skiplight.errors import ConfigError
from skiplight.registry import REGISTRIES

NOT_APPLICABLE = "n/a"
"""What a table has for an option that a trial does not read."""

KEYS = {group: f"{group}.{REGISTRIES[group].key}" for group in CHOSEN}
"""The option with the registered name of each group."""

_DECIDING = (*KEYS.values(), *DECIDING)


def is_applicable(option: str, params: Mapping[str, Any], config: Config) -> bool:
    """Return whether a run reads an option.

    Args:
        option: dotted name of the option.
        params: values of swept options, among them all that decide and are swept.
        config: the options that are not swept.
    """

    if why_unread(option, getter(params, config)) is not None:
        return False
    group, _, last = option.rpartition(".")
    if group not in CHOSEN:
        return True
    owners = [name for name in REGISTRIES[group] if last in own_names(group, name)]
    name = getter(params, config)(KEYS[group])
    return not owners or name in owners or name not in REGISTRIES[group]


def getter(params: Mapping[str, Any], config: Config) -> Get:
    """Return the function that gives an option's value: of swept options that of `params`, else that of `config`."""
    return lambda option: params[option] if option in params else get_option(config, option)


def order_options(options: Iterable[str]) -> list[str]:
    """Return options with the objective first, then other names on which options depend, otherwise in the same order.

    >>> order_options(["noise.negatives", "model.dim", "objective.name"])
    ['objective.name', 'noise.negatives', 'model.dim']
    """
    names = [KEYS["objective"], *_DECIDING]
    return sorted(options, key=lambda option: min(names.index(option), 1) if option in names else 2)


def possible_runs(space: Mapping[str, Any], config: Config) -> list[Get]:
    """Return the options of a run with each combination of swept values that decide which options are read.

    Args:
        space: the option `study.space`; a range decides nothing.
        config: the options that are not swept.
    """
    deciding = [key for key in _DECIDING if key in space and not isinstance(space[key], Mapping)]
    combinations = itertools.product(*(space[key] for key in deciding))
    return [getter(dict(zip(deciding, values, strict=True)), config) for values in combinations]


def find_names(option: str, space: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return swept names with which a run reads an option.

    Args:
        option: dotted name of the option.
        space: the option `study.space`.
        config: the options that are not swept.

    Raises:
        ConfigError: there are none.
    """
    keys = [key for key in _DECIDING if key in space and key != option]
    for names in itertools.product(*(space[key] for key in keys)):
        params = dict(zip(keys, names, strict=True))
        if is_applicable(option, params, config):
            return params
    if not keys and (reason := why_unread(option, getter({}, config))):
        raise ConfigError(f"`study.space`: `{option}` is not read: {reason}")
    decisive = dict.fromkeys([KEYS["objective"], KEYS.get(option.rpartition(".")[0], KEYS["objective"])])
    values = {key: space.get(key, functools.reduce(getattr, key.split("."), config)) for key in decisive}
    shown = " and ".join(f"`{key}={value}`" for key, value in values.items())
    raise ConfigError(f"`study.space`: `{option}` is read by no trial with {shown}: leave it out")
