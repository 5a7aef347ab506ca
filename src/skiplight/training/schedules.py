"""Learning-rate schedules: functions from the share of the run's tokens that are consumed to a factor of `optim.lr`.

The share is one of tokens, not of steps, so that a run has the same rates with another block size or number of ranks.
Every engine takes the rates before and after a step and interpolates them in between. So a schedule with a kink inside
a block is followed along the chord from one end of the block to the other.

Sources: `linear`, word2vec.c (Mikolov et al. 2013); `cosine`, Loshchilov and Hutter 2017, "SGDR: stochastic gradient
descent with warm restarts", without restarts; `wsd`, warm-up, stable, decay, Hu et al. 2024, "MiniCPM: unveiling the
potential of small language models with scalable training strategies".
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skiplight.config.schema import ScheduleConfig
from skiplight.errors import ConfigError
from skiplight.registry import SCHEDULES, option, own_options, register_schedule

Schedule = Callable[[float], float]
"""From the share of the run, 0 to 1, to a factor of the learning rate, at least 0."""

FINAL_LR = 1e-4
"""The final share of the learning rate, as in word2vec.c."""

TRIED = 1000
"""The number of parts of a run at whose ends a schedule is tried before the training."""

WARMUP = "linear rise from 0 at the beginning: a share of the run below 1, else tokens"


@register_schedule("linear")
def linear(progress: float) -> float:
    """Return 1 - progress, at least `FINAL_LR`.

    >>> linear(0.25), linear(1.0)
    (0.75, 0.0001)
    """
    return max(1 - progress, FINAL_LR)


@register_schedule("constant")
def constant(progress: float) -> float:
    """Return 1."""
    return 1.0


@dataclass
class CosineOptions:
    """Options of `optim.schedule=cosine`."""

    warmup: float = option(0.0, WARMUP, low=0)
    final: float = option(FINAL_LR, "final share of the learning rate", low=0, high=1)


@register_schedule("cosine", options=CosineOptions)
def cosine(progress: float, warmup: float, final: float, total: int) -> float:
    """Return half a cosine wave from 1 to `final`, after a linear rise.

    >>> round(cosine(0.55, warmup=0.1, final=0.0, total=100), 3)
    0.5
    """
    rise = share_of_run(warmup, total)
    if progress < rise:
        return progress / rise
    fallen = (progress - rise) / (1 - rise) if rise < 1 else 0.0
    return final + (1 - final) * (1 + math.cos(math.pi * fallen)) / 2


@dataclass
class WsdOptions:
    """Options of `optim.schedule=wsd`."""

    warmup: float = option(0.0, WARMUP, low=0)
    decay: float = option(0.2, "linear fall at the end: a share of the run up to 1, else tokens; 0: none", low=0)
    final: float = option(FINAL_LR, "final share of the learning rate, after the fall", low=0, high=1)


@register_schedule("wsd", options=WsdOptions)
def wsd(progress: float, warmup: float, decay: float, final: float, total: int) -> float:
    """Return 1 between a linear rise from 0 and a linear fall to `final`; where these overlap, the lower.

    Without a fall, and with a rise in tokens, the rate after a number of tokens does not depend on the length of the
    run: runs of other lengths can go on from a checkpoint of such a trunk.

    >>> [round(wsd(progress, 0.1, 0.2, 0.0, 100), 3) for progress in (0.05, 0.5, 0.9, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    rise, fall = share_of_run(warmup, total), decay if decay <= 1 else decay / total
    rising = progress / rise if progress < rise else 1.0
    falling = final + (1 - final) * (1 - progress) / fall if progress > 1 - fall else 1.0
    return min(rising, falling)


def trunk_tokens(config: ScheduleConfig, total: int) -> int:
    """Return the tokens up to which the rates of a run of `total` tokens are those of a longer one; 0 for none.

    >>> trunk_tokens(ScheduleConfig("constant"), 1000)
    1000
    """
    if config.name == "constant":
        return total
    options: dict[str, Any] = own_options("optim.schedule", config)
    if config.name != "wsd" or 0 < options["warmup"] < 1:
        return 0
    decay = options["decay"]
    return int(total - (decay * total if decay <= 1 else decay))


def share_of_run(amount: float, total: int) -> float:
    """Return the share of a run of `total` tokens that an amount is: itself below 1, else a number of tokens."""
    return amount if amount < 1 else amount / total


def make_schedule(config: ScheduleConfig, total: int) -> Schedule:
    """Return the schedule of a run, after it was tried from the beginning to the end.

    Args:
        config: its name and options.
        total: tokens of the run.

    Raises:
        ConfigError: it cannot be made, or a factor is not a finite number of at least 0, or all are 0.
    """
    entry = SCHEDULES[config.name]
    options: dict[str, Any] = own_options("optim.schedule", config)
    where = f"`optim.schedule={entry.name}`" + ("" if entry.is_built_in else f" ({entry.plugin})")
    try:
        if "total" in inspect.signature(entry.target).parameters:
            options["total"] = total
        schedule = entry.target(**options) if isinstance(entry.target, type) else _bind(entry.target, options)
        factors = [factor_of(schedule, part / TRIED) for part in range(TRIED + 1)]
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ConfigError(f"{where}: {kind}{error}") from error
    if not any(factors):
        raise ConfigError(f"{where}: every factor of the learning rate is 0")
    return schedule


def _bind(target: Callable[..., float], options: dict[str, Any]) -> Schedule:
    return functools.partial(target, **options)


def factor_of(schedule: Schedule, progress: float) -> float:
    """Return a schedule's factor at a share of the run.

    Raises:
        ValueError: the factor is not a finite number of at least 0.
    """
    factor = float(schedule(progress))
    if not 0 <= factor < math.inf:
        raise ValueError(f"its factor of the learning rate is {factor} after {progress:g} of the run: it must be >= 0")
    return factor


def largest_factor(schedule: Schedule) -> float:
    """Return about the largest factor of a run, with which the learning rate is judged before a training."""
    return max(factor_of(schedule, part / TRIED) for part in range(TRIED + 1))
