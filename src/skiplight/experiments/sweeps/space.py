"""The search space of a study: options of a run, each with values or a range, checked against the schema.

    study.space:
      noise.negatives: [5, 15]                    one of these values
      noise.exponent: {low: -1, high: 1}          uniform in a range, of the option's type
      model.dim: {low: 50, high: 300, step: 50}   uniform among multiples of the step
      optim.lr: {low: 0.01, high: 0.1, log: true} uniform in the logarithm

On a command line, the space is written as for Hydra's multirun: `noise.negatives=5,15`,
`noise.exponent=interval(-1,1)`, `model.dim=range(50,301,50)`, `optim.lr=tag(log, interval(0.01,0.1))`.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from skiplight.config.schema import CHOSEN, EXPERIMENT_GROUPS, MAPPINGS, Config
from skiplight.config.validate import check_names, from_mapping, option_types, own_names, run_options
from skiplight.errors import ConfigError
from skiplight.experiments.sweeps.conditions import find_names, is_applicable
from skiplight.registry import REGISTRIES

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Params = dict[str, Any]
"""A value of each swept option, by its dotted name."""


def split_overrides(overrides: Sequence[str]) -> tuple[list[str], Params]:
    """Return the overrides that set an option, and the search space of those with several values.

    >>> split_overrides(["model.dim=8", "noise.negatives=5,15", "noise.exponent=interval(-1, 1)"])
    (['model.dim=8'], {'noise.negatives': [5, 15], 'noise.exponent': {'low': -1.0, 'high': 1.0}})

    A group of registered names is searched by name; what a name does not have of the other options is left out:

    >>> split_overrides(["objective=nce,full_softmax"])
    ([], {'objective.name': ['nce', 'full_softmax']})
    """
    plain, space = [], {}
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            plain.append(text)  # `compose` raises the error
            continue
        if override.is_sweep_override():
            space[_option_of(override.key_or_group)] = _parse_sweep(override)
        else:
            plain.append(text)
    return plain, space


def _option_of(name: str) -> str:
    """Return the option that a group of registered names sets, `objective.name` for `objective`, else the name itself.

    >>> _option_of("optim/schedule"), _option_of("model.dim")
    ('optim.schedule.name', 'model.dim')
    """
    group = name.replace("/", ".")
    if group == "engine":  # a group whose files set its name only
        return "engine.name"
    return f"{group}.{REGISTRIES[group].key}" if group in CHOSEN else name


def _parse_sweep(override: Override) -> Any:
    value = override.value()
    if isinstance(value, IntervalSweep):
        spec: dict[str, Any] = {"low": value.start, "high": value.end}
        return spec | ({"log": True} if "log" in value.tags else {})
    if isinstance(value, RangeSweep):
        return list(value.range())
    assert isinstance(value, ChoiceSweep)
    return [item.text if isinstance(item, QuotedString) else item for item in value.list]


def build_distributions(space: Any, config: Config) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution for each swept option.

    Args:
        space: the option `study.space`.
        config: the options that are not swept.

    Raises:
        ConfigError: the space is empty, or has an unknown option or an empty range.
    """
    if not space:
        raise ConfigError(
            "`study.space` is empty: give the options to search, as in `noise.exponent=0,0.5,1` on the command line"
        )
    if not isinstance(space, Mapping):
        raise ConfigError(f"`study.space={space}` must map names of options to values or ranges")
    types = option_types(config) | {name: _type_of(spec) for name, spec in space.items() if _is_entry(name)}
    check_names(list(space))
    found = {}
    for name, spec in space.items():
        if name not in types or name == "run_dir" or name.partition(".")[0] in EXPERIMENT_GROUPS:
            remedy = f"; give `{name}.name`" if f"{name}.name" in types else ""
            raise ConfigError(f"`study.space`: `{name}` is not a single option of a run{remedy}")
        found[name] = (
            _check_values(name, spec) if not isinstance(spec, Mapping) else _check_range(name, spec, types[name])
        )
    return found


def check_values(space: Mapping[str, Any], config: Config) -> None:
    """Check that each option is read by some trial, and takes its values, or the ends of its range.

    Args:
        space: the option `study.space`, of which `build_distributions` has made distributions.
        config: the options that are not swept.

    Raises:
        ConfigError: an option refuses a value, or is read by no trial.
    """
    distributions = build_distributions(space, config)
    for name, spec in space.items():
        names, found = find_names(name, space, config), distributions[name]
        for value in spec if not isinstance(spec, Mapping) else (found.low, found.high):  # type: ignore[attr-defined]
            apply_parameters(config, names | {name: value})


def _is_entry(name: str) -> bool:
    """Return whether an option is an entry of one that is a mapping: `optim.args.momentum`."""
    return name.rpartition(".")[0] in MAPPINGS


def _type_of(spec: Any) -> type:
    """Return the type of an entry of a mapping, which no schema knows: int for a range of integers."""
    ends = [spec.get("low"), spec.get("high")] if isinstance(spec, Mapping) else []
    return int if ends and all(isinstance(end, int) for end in ends) else float


def _check_values(name: str, spec: Any) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution

    if not isinstance(spec, list | tuple):
        raise ConfigError(f"`study.space`: `{name}: {spec}` must be a list of values, or {{low, high, step, log}}")
    if not spec:
        raise ConfigError(f"`study.space`: `{name}` has no values: the list is empty")
    for value in spec:
        if value is not None and not isinstance(value, bool | int | float | str):
            raise ConfigError(f"`study.space`: `{name}` has {value!r}, which is not a single value")
    if len({repr(value) for value in spec}) < len(spec):
        raise ConfigError(f"`study.space`: `{name}: {list(spec)}` has a value twice: remove one")
    return CategoricalDistribution(list(spec))


def _check_range(name: str, spec: Mapping[str, Any], kind: Any) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    shown = f"`study.space`: `{name}: {dict(spec)}`"
    if unknown := [key for key in spec if key not in ("low", "high", "step", "log")]:
        raise ConfigError(f"{shown}: a range has low, high, step and log, not {', '.join(map(str, unknown))}")
    if missing := [key for key in ("low", "high") if key not in spec]:
        raise ConfigError(f"{shown}: {' and '.join(missing)} is missing")
    if kind not in (int, float, int | None, float | None):
        raise ConfigError(f"{shown}: the option is not a number; give a list of values")
    whole = kind in (int, int | None)
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    for number in (low, high, *([] if step is None else [step])):
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ConfigError(f"{shown}: {number!r} is not a number")
        if whole and number != int(number):
            raise ConfigError(f"{shown}: {number} is not an integer, but the option is one")
    if low > high:
        raise ConfigError(f"{shown}: the range is empty, since low is above high")
    if not isinstance(log, bool):
        raise ConfigError(f"{shown}: log must be true or false")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"{shown}: with log, low must be above 0 and step must not be given")
    if step is not None and step <= 0:
        raise ConfigError(f"{shown}: step must be above 0")
    if step is not None:  # Optuna would lower `high` with a warning
        high = low + math.floor((high - low) / step + 1e-9) * step
    if whole:
        return IntDistribution(int(low), int(high), step=int(step or 1), log=log)
    return FloatDistribution(float(low), float(high), step=step, log=log)


def apply_parameters(config: Config, params: Params) -> Config:
    """Return the options of `config` with the values of `params`.

    Raises:
        ConfigError: a value has the wrong type, or is out of the option's range.
    """
    mapping = run_options(config)
    for name, value in params.items():
        *groups, last = name.split(".")
        inner = mapping
        for group in groups:
            inner[group] = dict(inner[group] or {})  # a mapping without entries is None
            inner = inner[group]
        inner[last] = value
    for group in CHOSEN:  # drop options of `config` that the name chosen by `params` does not have
        inner, key = functools.reduce(operator.getitem, group.split("."), mapping), str(REGISTRIES[group].key)
        if (name := inner[key]) in REGISTRIES[group] and f"{group}.{key}" in params:
            foreign = {option for other in REGISTRIES[group] for option in own_names(group, other)}
            for option in foreign - {*own_names(group, name)}:
                inner.pop(option, None)
    return from_mapping(mapping)


def grid_points(found: Mapping[str, BaseDistribution], config: Config) -> list[Params]:
    """Return every point of the space once, the last option varying fastest.

    Raises:
        ConfigError: a range has no step, and so infinitely many points.
    """
    axes = [_axis_points(name, distribution) for name, distribution in found.items()]
    points: dict[str, Params] = {}
    for values in itertools.product(*axes):
        point = dict(zip(found, values, strict=True))
        point = {name: value for name, value in point.items() if is_applicable(name, point, config)}
        points.setdefault(repr(point), point)
    return list(points.values())


def _axis_points(name: str, distribution: Any) -> list[Any]:
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log or step is None:
        raise ConfigError(f"`study.sampler=grid`: the range of `{name}` is not a grid; give a list of values or a step")
    return [low + step * index for index in range(round((high - low) / step) + 1)]
