"""The search space of a study: options of a run, each with values or a range, checked against the schema.

    study.space:
      noise.negatives: [5, 15]                    one of these
      noise.exponent: {low: -1, high: 1}          between these, as a number of the option's type
      model.dim: {low: 50, high: 300, step: 50}   on a lattice
      optim.lr: {low: 0.01, high: 0.1, log: true} even in the logarithm

The overrides of a command line may say the same as for Hydra's multirun: `noise.negatives=5,15`,
`noise.exponent=interval(-1,1)`, `model.dim=range(50,301,50)`, `optim.lr=tag(log, interval(0.01,0.1))`.
"""

from __future__ import annotations

import itertools
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from skiplight.config.schema import CHOSEN, EXPERIMENT_GROUPS, LOGGERS, Config, chosen
from skiplight.config.validate import check_names, from_mapping, iterate_options, own_names, run_options
from skiplight.errors import ConfigError
from skiplight.registry import REGISTRIES

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Params = dict[str, Any]
"""A value for each swept option, by dotted name."""


def split(overrides: Sequence[str]) -> tuple[list[str], Params]:
    """The overrides that set an option, and the search space that the others say.

    >>> split(["model.dim=8", "noise.negatives=5,15", "noise.exponent=interval(-1, 1)"])
    (['model.dim=8'], {'noise.negatives': [5, 15], 'noise.exponent': {'low': -1.0, 'high': 1.0}})
    """
    plain, space = [], {}
    parser = OverridesParser.create()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            plain.append(text)  # composing says what is wrong with it
            continue
        if override.is_sweep_override():
            space[override.key_or_group] = _spec(override)
        else:
            plain.append(text)
    return plain, space


def _spec(override: Override) -> Any:
    value = override.value()
    if isinstance(value, IntervalSweep):
        spec: dict[str, Any] = {"low": value.start, "high": value.end}
        return spec | ({"log": True} if "log" in value.tags else {})
    if isinstance(value, RangeSweep):
        return list(value.range())
    assert isinstance(value, ChoiceSweep)
    return [item.text if isinstance(item, QuotedString) else item for item in value.list]


def distributions(space: Any, config: Config) -> dict[str, BaseDistribution]:
    """What Optuna draws from, for each swept option.

    Args:
        space: `study.space`.
        config: the options that are not swept.

    Raises:
        ConfigError: the space is empty, or has an unknown option, an empty range, or a value that is out of its range.
    """
    if not space:
        raise ConfigError(
            "`study.space` is empty: give the options to search, as in `noise.exponent=0,0.5,1` on the command line"
        )
    if not isinstance(space, Mapping):
        raise ConfigError(f"`study.space={space}` must map names of options to values or ranges")
    types = dict(_types(config))
    check_names(list(space))
    found = {}
    for name, spec in space.items():
        if name not in types or name == "run_dir" or name.partition(".")[0] in EXPERIMENT_GROUPS:
            remedy = f"; give `{name}.name`" if f"{name}.name" in types else ""
            raise ConfigError(f"`study.space`: `{name}` is no single option of a run{remedy}")
        found[name] = _values(name, spec) if not isinstance(spec, Mapping) else _range(name, spec, types[name])
        for value in spec if not isinstance(spec, Mapping) else (spec["low"], spec["high"]):
            apply_parameters(config, {name: value})
    return found


def _types(config: Config) -> Iterator[tuple[str, Any]]:
    """The type of every option of a run, and of those that other registered names would add."""
    hints = typing.get_type_hints(Config)
    for name, _ in [*iterate_options(), *iterate_options(config)]:
        group, _, last = name.partition(".")
        if not last:
            yield name, hints[name]
        elif group == "logger":
            logger, _, option = last.partition(".")
            yield name, typing.get_type_hints(LOGGERS[logger])[option]
        elif group in CHOSEN:
            owners = [type(getattr(config, group)), *(type(chosen(group, entry)) for entry in REGISTRIES[group])]
            yield name, next(found[last] for found in map(typing.get_type_hints, owners) if last in found)
        else:
            yield name, typing.get_type_hints(hints[group])[last]


def _values(name: str, spec: Any) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution

    if not isinstance(spec, list | tuple):
        raise ConfigError(f"`study.space`: `{name}: {spec}` must be a list of values, or {{low, high, step, log}}")
    if not spec:
        raise ConfigError(f"`study.space`: `{name}` is given no values: the list is empty")
    for value in spec:
        if value is not None and not isinstance(value, bool | int | float | str):
            raise ConfigError(f"`study.space`: `{name}` is given {value!r}, which is no single value")
    if len({repr(value) for value in spec}) < len(spec):
        raise ConfigError(f"`study.space`: `{name}: {list(spec)}` has a value twice")
    return CategoricalDistribution(list(spec))


def _range(name: str, spec: Mapping[str, Any], kind: Any) -> BaseDistribution:
    from optuna.distributions import FloatDistribution, IntDistribution

    shown = f"`study.space`: `{name}: {dict(spec)}`"
    if unknown := [key for key in spec if key not in ("low", "high", "step", "log")]:
        raise ConfigError(f"{shown}: a range has low, high, step and log, not {', '.join(map(str, unknown))}")
    if missing := [key for key in ("low", "high") if key not in spec]:
        raise ConfigError(f"{shown}: {' and '.join(missing)} is missing")
    if kind not in (int, float, int | None, float | None):
        raise ConfigError(f"{shown}: the option is no number; give a list of values")
    whole = kind in (int, int | None)
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    for number in (low, high, *([] if step is None else [step])):
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ConfigError(f"{shown}: {number!r} is no number")
        if whole and number != int(number):
            raise ConfigError(f"{shown}: {number} is no integer, which the option is")
    if low > high:
        raise ConfigError(f"{shown}: the range is empty, since low is above high")
    if not isinstance(log, bool):
        raise ConfigError(f"{shown}: log must be true or false")
    if log and (low <= 0 or step is not None):
        raise ConfigError(f"{shown}: with log, low must be above 0, and there is no step")
    if step is not None and step <= 0:
        raise ConfigError(f"{shown}: step must be above 0")
    if step is not None:  # Optuna would lower `high` with a warning
        high = low + math.floor((high - low) / step + 1e-9) * step
    if whole:
        return IntDistribution(int(low), int(high), step=int(step or 1), log=log)
    return FloatDistribution(float(low), float(high), step=step, log=log)


def apply_parameters(config: Config, params: Params) -> Config:
    """The options of a run: those of `config`, with `params` in their places.

    Raises:
        ConfigError: a value is of the wrong type or out of its option's range.
    """
    mapping = run_options(config)
    for name, value in params.items():
        *groups, last = name.split(".")
        inner = mapping
        for group in groups:
            inner = inner[group]
        inner[last] = value
    for group in CHOSEN:  # a trial with another name has none of the options that only its siblings have
        inner, key = mapping[group], REGISTRIES[group].key
        name = inner[key]
        if name in REGISTRIES[group] and f"{group}.{key}" in params:
            foreign = {option for other in REGISTRIES[group] for option in own_names(group, other)}
            mapping[group] = {k: v for k, v in inner.items() if k not in foreign or k in own_names(group, name)}
    return from_mapping(mapping)


def grid(found: Mapping[str, BaseDistribution]) -> list[Params]:
    """Every point of the space, the last option varying fastest.

    Raises:
        ConfigError: a range has no step, and so no points.
    """
    axes = [_points(name, distribution) for name, distribution in found.items()]
    return [dict(zip(found, point, strict=True)) for point in itertools.product(*axes)]


def _points(name: str, distribution: Any) -> list[Any]:
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    low, high, step = distribution.low, distribution.high, distribution.step
    if distribution.log or step is None:
        raise ConfigError(f"`study.sampler=grid`: the range of `{name}` has no points; give a list of values or a step")
    return [low + step * index for index in range(round((high - low) / step) + 1)]
