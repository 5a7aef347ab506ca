"""List, check, save and load options."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import operator
import os
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skiplight.config.schema import CHOSEN, EXPERIMENT_GROUPS, Config, chosen
from skiplight.errors import ConfigError
from skiplight.files import read_text
from skiplight.registry import NAMES, REGISTRIES, load_built_in, load_plugins

MAX_BYTES = 1 << 20
RENAMED = {
    "model.start": "give `model.init_from`",
    "evaluation.hits": "give `evaluation.hit_rate`",
    "objective.proposal": "give `noise=log_uniform`",
    "distributed.every": "give `distributed.bytes_per_token`, what a machine may send to the others per token",
}
"""Former options, and the advice for each."""

MAX_DEPTH = 16
"""The deepest nesting of YAML that is read; no config has as much."""


def iterate_options(config: Config | None = None) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield the dotted name and field of every option, in the schema's order.

    Without a config the options of all registered names are among them: those of objectives that are not chosen, too.
    """
    types = typing.get_type_hints(Config)
    for field in dataclasses.fields(Config):
        if not dataclasses.is_dataclass(types[field.name]):
            yield field.name, field
            continue
        group: list[Any] = [types[field.name]] if config is None else [getattr(config, field.name)]
        if config is None and field.name in CHOSEN:
            load_built_in()
            group += [type(chosen(field.name, name)) for name in REGISTRIES[field.name]]
        fields: dict[str, dataclasses.Field] = {}
        for owner in group:
            for inner in dataclasses.fields(owner):
                fields.setdefault(inner.name, inner)
        yield from ((f"{field.name}.{name}", inner) for name, inner in fields.items())


def describe_options() -> Iterator[tuple[str, str, str, str]]:
    """Yield name, default, range and help of every option, as text."""
    for name, field in iterate_options():
        group, _, last = name.partition(".")
        value = default_value(field)
        limits, choices = field.metadata, field.metadata["choices"]
        if group in CHOSEN and last == REGISTRIES[group].key:
            choices = list(REGISTRIES[group])
        if name in NAMES:
            choices = list(NAMES[name])
        if choices:
            allowed = " | ".join(choices)
        elif limits["above"] is not None:
            allowed = f"> {limits['above']:g}"
        else:
            allowed = " ".join(
                f"{sign} {limits[end]:g}" for end, sign in (("low", ">="), ("high", "<=")) if limits[end] is not None
            )
        owners = [entry for entry in REGISTRIES.get(group, ()) if last in own_names(group, entry)]
        help = f"{', '.join(owners)}: {limits['help']}" if owners else limits["help"]
        yield name, "" if value is None else str(value), allowed, help


def default_value(field: dataclasses.Field) -> Any:
    """Return the default of an option."""
    return field.default_factory() if callable(field.default_factory) else field.default


def own_names(group: str, name: str) -> list[str]:
    """Return the names of the options that a registered name adds to its group."""
    return [field.name for field in dataclasses.fields(REGISTRIES[group][name].options)]


def check_names(keys: Sequence[str]) -> None:
    """Check that dotted option names exist.

    Raises:
        ConfigError: for the first unknown name, with the most similar options.
    """
    known = {name for name, _ in iterate_options()} | {field.name for field in dataclasses.fields(Config)}
    for key in keys:
        if key in RENAMED:
            raise ConfigError(f"`{key}` no longer exists: {RENAMED[key]}")
        if key in known:
            continue
        # `dim` or `noise.dim` for `model.dim`: compare with the last part as well as with the whole.
        ends = {name.rpartition(".")[2]: name for name in sorted(known, reverse=True)}
        near = difflib.get_close_matches(key, sorted(known), n=3, cutoff=0.75)
        near += [ends[e] for e in difflib.get_close_matches(key.rpartition(".")[2], list(ends), n=2, cutoff=0.7)]
        hint = f"; did you mean {' or '.join(f'`{n}`' for n in dict.fromkeys(near))}?" if near else ""
        raise ConfigError(f"unknown option `{key}`{hint} (`skiplight train --help` lists all options)")


def check_owner(key: str) -> None:
    """Raise a ConfigError if an option is that of a registered name which was not chosen."""
    group, _, last = key.partition(".")
    if owners := [name for name in REGISTRIES.get(group, ()) if last in own_names(group, name)]:
        choices = " or ".join(f"`{group}={name}`" for name in owners)
        raise ConfigError(f"`{key}` is an option of {choices} only: give {choices}, or leave it out")


def check_ranges(config: Config) -> None:
    """Check the range of every option.

    Raises:
        ConfigError: names the option, its value and the allowed values.
    """
    for name, field in iterate_options(config):
        value = operator.attrgetter(name)(config)
        if problem := _out_of_range(value, field.metadata):
            raise ConfigError(f"`{name}={value}` is out of range: {problem}")
        if name in NAMES:
            NAMES[name][value]  # raises where it is not registered
    tokens = config.data.block_tokens
    if tokens != "auto" and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        raise ConfigError(f"`data.block_tokens={tokens}` is out of range: it must be auto or an integer of at least 1")


def _out_of_range(value: Any, limits: Mapping[str, Any]) -> str | None:
    if value is None:
        return None
    if problem := _unfit(value):
        return problem
    low, high, above, choices = (limits[name] for name in ("low", "high", "above", "choices"))
    if choices is not None and value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        return f"it must be one of {', '.join(choices)}" + (f" (did you mean {near[0]}?)" if near else "")
    if isinstance(value, float) and not math.isfinite(value):
        return "it must be a finite number"
    if low is not None and value < low:
        return f"it must be at least {low:g}" + (f" and at most {high:g}" if high is not None else "")
    if high is not None and value > high:
        return f"it must be at most {high:g}"
    if above is not None and not value > above:
        return f"it must be above {above:g}"
    return None


def _unfit(value: Any, depth: int = 0) -> str | None:
    """Return why no option can have a value, or one inside it; None if an option can."""
    if isinstance(value, int) and abs(value) >= 2**63:
        return "it must have at most 64 bits"
    if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
        return "it must be of Unicode characters other than NUL; give a file whose name is not UTF-8 another name"
    if depth > MAX_DEPTH:
        return f"it is nested more than {MAX_DEPTH} deep"
    inner = [*value, *value.values()] if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return next((problem for item in inner if (problem := _unfit(item, depth + 1))), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a byte that is not UTF-8 came as a lone surrogate
        return False
    return True


def from_mapping(mapping: Any) -> Config:
    """Return a checked `Config` from nested mappings, composed by Hydra or read from a config.yaml.

    Raises:
        ConfigError: an option is unknown, of the wrong type or out of range, or a name is not registered.
    """
    try:
        merged = OmegaConf.merge(_schema(*_chosen_names(mapping)), mapping)  # into a copy
        config = typing.cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        if "not in" in str(error):
            check_names([key])
            check_owner(key)
        raise ConfigError(f"`{key}`: {str(error).splitlines()[0]}") from None
    check_ranges(config)
    return config


def _chosen_names(mapping: Any) -> tuple[str, ...]:
    """The registered name of each group of `CHOSEN`.

    Raises:
        ConfigError: nothing is registered by it; for a run's config the message names the plug-ins it was made with.
    """
    load_plugins()
    names = []
    for group, base in CHOSEN.items():
        key = str(REGISTRIES[group].key)
        default = str(next(field.default for field in dataclasses.fields(base) if field.name == key))
        inner = mapping.get(group)
        name = inner.get(key, default) if isinstance(inner, Mapping | DictConfig) else default
        if name not in REGISTRIES[group] and (plugins := mapping.get("plugins")):
            raise ConfigError(
                f"`{group}={name}` is not registered: it was made with the plug-ins {', '.join(map(str, plugins))};"
                f" name them again, `plugins=[{','.join(map(str, plugins))}]`, if you trust them"
            )
        names.append(REGISTRIES[group][name].name)
    return tuple(names)


@functools.cache
def _schema(*names: str) -> DictConfig:
    """Return the schema for these registered names, cached since building it takes as long as the rest."""
    return OmegaConf.structured(Config(**{group: chosen(group, n) for group, n in zip(CHOSEN, names, strict=True)}))


def run_options(config: Config) -> dict[str, Any]:
    """Return the options of a run as nested mappings, without `EXPERIMENT_GROUPS`."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in EXPERIMENT_GROUPS}


def save_config(config: Config, path: Path) -> None:
    """Write a run's options to a config.yaml: plain YAML, resolved, without interpolation."""
    path.write_text(yaml.safe_dump(run_options(config), sort_keys=False, allow_unicode=True), encoding="utf-8")


def load_config(path: Path) -> Config:
    """Read a config.yaml into the schema; nothing in it is resolved, imported or executed.

    Raises:
        ConfigError: the file is not the config of a run.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} is no run's config: it has more than {MAX_BYTES:,} bytes")
        text = read_text(path)
        _check_events(text, path)
        mapping = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a run's config: {error}") from None
    if not isinstance(mapping, dict):
        raise ConfigError(f"{path} is not a run's config: it holds no mapping of options")
    _check_plain(mapping, os.fspath(path))
    try:
        return from_mapping(mapping)
    except ConfigError as error:  # from an earlier version or edited by hand: name the file to correct
        raise ConfigError(f"{path}: {error}") from None


def _check_events(text: str, path: Path) -> None:
    """Refuse YAML whose expansion could be unbounded, before it is loaded."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH or isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{path} holds an alias or {MAX_DEPTH} levels, which a run's config may not")


def _check_plain(value: Any, where: str) -> None:
    """Refuse all but plain values; interpolations would pass the schema but stand for other values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{where}: {key!r} is no name of an option")
            _check_plain(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, where)
    elif isinstance(value, str):
        if "${" in value or value == "???":
            raise ConfigError(f"{where}: {value!r} stands for another value, which a run's config may not")
    elif not isinstance(value, int | float | None):
        raise ConfigError(f"{where}: {value!r} is of a type that no option has")
