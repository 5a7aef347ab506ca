"""Optuna's samplers by name, for a study whose state is in its journal only.

A sampler is made anew for every point, with a seed that is a function of the study's seed and of the number of the
point, and sees the points as trials of a study in memory. What it keeps of its own in attributes of Optuna's (the state
of CMA-ES, the generations of NSGA-II, the place in a low-discrepancy sequence) is written into the journal with the
point that it has suggested, in the same line. So a study that was killed goes on with the same points.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from skiplight.config.schema import Config, StudyConfig
from skiplight.errors import ConfigError
from skiplight.experiments.metrics import Direction
from skiplight.experiments.sweeps.conditions import is_applicable, order_options
from skiplight.experiments.sweeps.points import STUDY_STATE, Point

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

SAMPLERS = {
    "tpe": "TPESampler", "gp": "GPSampler", "cmaes": "CmaEsSampler", "nsgaii": "NSGAIISampler", "qmc": "QMCSampler",
    "random": "RandomSampler", "auto": "AutoSampler",
}  # fmt: skip
"""Optuna's class of each value of `study.sampler` but `grid`, which needs none."""


AUTO_SAMPLER = "samplers/auto_sampler"

ATTEMPTS, RANDOM_ATTEMPT = 30, 4
"""How often values are suggested until they are new, and from when on at random."""


def make_sampler(study: StudyConfig, seed: int, number: int, attempt: int = 0) -> optuna.samplers.BaseSampler:
    """Return the sampler of a point; from attempt `RANDOM_ATTEMPT` on, a random one.

    Args:
        study: its name and arguments.
        seed: seed of the study.
        number: number of the point.
        attempt: how often it has suggested values that were tried before.

    Raises:
        ConfigError: it does not have an argument, or its package is not installed.
    """
    import numpy as np
    import optuna

    if study.sampler == "cmaes" and importlib.util.find_spec("cmaes") is None:
        raise ConfigError("`study.sampler=cmaes` needs the package cmaes: install it with `pip install cmaes`")
    entropy = [seed, number, attempt] if attempt else [seed, number]
    own = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    if attempt >= RANDOM_ATTEMPT:
        return optuna.samplers.RandomSampler(own)
    fixed: dict[str, dict[str, Any]] = {
        # One sequence for all points, in which each has its place.
        "qmc": {"seed": seed, "scramble": True, "warn_asynchronous_seeding": False},
        # Running trials count as poor ones, so that workers do not try the same values.
        "tpe": {"constant_liar": True},
    }
    arguments = {"seed": own} | fixed.get(study.sampler, {}) | (study.sampler_args or {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return _sampler_class(study.sampler)(**arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"`study.sampler_args={study.sampler_args}`: {error}; give arguments of Optuna's"
                f" {SAMPLERS[study.sampler]}"
            ) from None


def _sampler_class(name: str) -> Any:
    import optuna

    if name != "auto":
        return getattr(optuna.samplers, SAMPLERS[name])
    try:
        import optunahub

        # Downloaded on first use, then from OptunaHub's cache.
        return optunahub.load_module(AUTO_SAMPLER).AutoSampler
    except Exception as error:  # of the packages, of git, or of the network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"`study.sampler=auto` is {AUTO_SAMPLER} of OptunaHub, which cannot be loaded ({reason}): install it with"
            " `pip install 'skiplight[auto]'`, and use it once on a machine that reaches github.com"
        ) from None


def suggest(
    sampler: optuna.samplers.BaseSampler,
    points: Sequence[Point],
    space: dict[str, BaseDistribution],
    directions: Sequence[Direction],
    config: Config,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the values of the next point, and what the sampler keeps with it.

    Args:
        sampler: the sampler.
        points: the points so far.
        space: distributions of the swept options.
        directions: whether each metric is maximised or minimised.
        config: the options that are not swept.
    """
    import optuna

    # In memory, since in a journal `ask` writes a line per value, and a killed process could leave only some.
    in_memory = optuna.create_study(directions=directions, sampler=sampler)
    in_memory.add_trials([point.as_trial(space) for point in points])
    storage, study_id = in_memory._storage, in_memory._study_id
    before: dict[str, Any] = {}
    for point in points:
        before |= point.trials[0].system_attrs.get(STUDY_STATE, {})
    for name, value in before.items():
        storage.set_study_system_attr(study_id, name, value)
    trial, params = in_memory.ask(), dict[str, Any]()
    for name in order_options(space):
        if is_applicable(name, params, config):
            params[name] = _suggest_value(trial, name, space[name])
    after = storage.get_study_system_attrs(study_id)
    changed = {name: value for name, value in after.items() if before.get(name) != value}
    own = dict(storage.get_trial(trial._trial_id).system_attrs)
    return params, own | ({STUDY_STATE: changed} if changed else {})


def _suggest_value(trial: optuna.Trial, name: str, distribution: Any) -> Any:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    ends = {"step": distribution.step, "log": distribution.log}
    return suggest(name, distribution.low, distribution.high, **ends)
