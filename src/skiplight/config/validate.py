"""List, check, save and load options."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import os
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skiplight.config.schema import CHOSEN, EXPERIMENT_GROUPS, LOGGERS, MAPPINGS, Config, chosen
from skiplight.config.trainer_arguments import REFUSED, check_trainer
from skiplight.errors import ConfigError
from skiplight.files import read_text
from skiplight.registry import (
    EVALUATIONS,
    NAMES,
    REGISTRIES,
    TARGETS,
    Entry,
    Registry,
    config_class,
    load_built_in,
    load_plugins,
    plugin_modules,
)

MAX_BYTES = 1 << 20
RENAMED = {
    "model.start": "give `model.init_from`",
    "evaluation.hits": "give `evaluation.hit_rate`",
    "objective.proposal": "give `noise=log_uniform`",
    **{f"logger.{name}": f"give `logger.wandb.{name}`" for name in ("offline", "project", "group", "artifact")},
    "logger.name": "give the name alone, as in `logger=csv` or `logger=[wandb,csv]`",
    "distributed.every": "give `distributed.bytes_per_token`, what a machine may send to the others per token",
}
"""Former options, and the advice for each."""

OPEN = ("callbacks", "logger")
"""Options that are mappings, by any name, of what has a `_target_` and its arguments."""

MAX_DEPTH = 16
"""The deepest nesting of YAML that is read; no config has as much."""


def iterate_options(config: Config | None = None) -> Iterator[tuple[str, dataclasses.Field]]:
    """Yield the dotted name and field of every option, in the schema's order.

    Without a config the options of all registered names are among them: those of objectives that are not chosen, too.
    """
    yield from ((name, field) for name, field, _ in _walk([Config if config is None else config]))


def option_types(config: Config) -> dict[str, Any]:
    """Return the type of every option, also of those that other registered names than the chosen ones would add."""
    return {name: kind for owner in (Config, config) for name, _, kind in _walk([owner])}


def _walk(owners: Sequence[Any], prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Yield dotted name, field and type of the options of a group.

    Args:
        owners: dataclasses of its options, of which the first that has an option counts; or one instance.
        prefix: of the dotted names.
    """
    found: dict[str, tuple[dataclasses.Field, Any]] = {}
    for owner in owners:
        types = typing.get_type_hints(owner if isinstance(owner, type) else type(owner))
        for field in dataclasses.fields(owner):
            found.setdefault(field.name, (field, types[field.name]))
    for name, (field, kind) in found.items():
        if not dataclasses.is_dataclass(kind):
            yield prefix + name, field, kind
            if prefix + name == "logger":
                given = LOGGERS if isinstance(owners[0], type) else owners[0].logger
                for logger in (logger for logger in LOGGERS if logger in given):
                    yield from _walk([LOGGERS[logger]], f"logger.{logger}.")
            continue
        inner: list[Any] = [kind] if isinstance(owners[0], type) else [getattr(owners[0], name)]
        if inner == [kind] and prefix + name in CHOSEN:
            load_built_in()
            inner += [type(chosen(prefix + name, entry)) for entry in REGISTRIES[prefix + name]]
        yield from _walk(inner, f"{prefix}{name}.")


def describe_options() -> Iterator[tuple[str, str, str, str]]:
    """Yield name, default, range and help of every option, as text."""
    for name, field in iterate_options():
        group, _, last = name.rpartition(".")
        value = "wandb" if name == "logger" else default_value(field)
        limits, choices = field.metadata, field.metadata["choices"]
        if group in CHOSEN and last == REGISTRIES[group].key:
            choices = list(REGISTRIES[group])
        if name in NAMES:
            choices = list(NAMES[name])
        if name == EVALUATIONS.group:
            choices = [entry.name for entry in _plugins_of(EVALUATIONS)]
        owners = [entry for entry in REGISTRIES.get(group, ()) if last in own_names(group, entry)]
        help = f"{', '.join(owners)}: {limits['help']}" if owners else limits["help"]
        yield name, "" if value in (None, {}) else str(value), _allowed(limits, choices), help
        several = EVALUATIONS if name == EVALUATIONS.group else TARGETS.get(name)
        for entry in _plugins_of(several) if several else ():
            for own in dataclasses.fields(entry.options):
                limits, value = own.metadata, default_value(own)
                allowed = _allowed(limits, limits["choices"])
                yield f"{name}.{entry.name}.{own.name}", "" if value is None else str(value), allowed, limits["help"]


def _plugins_of(registry: Registry) -> list[Entry]:
    """Return the entries of plug-ins."""
    return [entry for entry in map(registry.__getitem__, registry) if not entry.is_built_in]


def _allowed(limits: Mapping[str, Any], choices: Sequence[str] | None) -> str:
    """Return the allowed values of an option, as text."""
    if choices:
        return " | ".join(choices)
    if limits["above"] is not None:
        return f"> {limits['above']:g}"
    ends = (("low", ">="), ("high", "<="))
    return " ".join(f"{sign} {limits[end]:g}" for end, sign in ends if limits[end] is not None)


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
    known = {name for name, _ in iterate_options()} | {field.name for field in dataclasses.fields(Config)} | {*CHOSEN}
    for key in keys:
        if key in RENAMED:
            raise ConfigError(f"`{key}` no longer exists: {RENAMED[key]}")
        group, _, last = key.partition(".")
        if group == "trainer" and last in REFUSED:
            raise ConfigError(f"`{key}` is refused: {REFUSED[last]}")
        # Entries of evaluations are checked by `check_evaluations`, of loggers and callbacks by what makes them.
        is_entry = key.startswith(tuple(f"{mapping}." for mapping in (*MAPPINGS, EVALUATIONS.group)))
        if key in known or is_entry or (group in OPEN and (last in LOGGERS or last.partition(".")[0] not in LOGGERS)):
            continue
        # `dim` or `noise.dim` for `model.dim`: compare with the last part as well as with the whole.
        ends = {name.rpartition(".")[2]: name for name in sorted(known, reverse=True)}
        near = difflib.get_close_matches(key, sorted(known), n=3, cutoff=0.75)
        near += [ends[e] for e in difflib.get_close_matches(key.rpartition(".")[2], list(ends), n=2, cutoff=0.7)]
        hint = f"; did you mean {' or '.join(f'`{n}`' for n in dict.fromkeys(near))}?" if near else ""
        raise ConfigError(f"unknown option `{key}`{hint} (`skiplight train --help all` lists all options)")


def check_owner(key: str) -> None:
    """Raise a ConfigError if an option is that of a registered name which was not chosen."""
    group, _, last = key.rpartition(".")
    if group == "logger" and last in LOGGERS:
        raise ConfigError(f"`{key}.*` are options of `logger={last}` only: give `logger={last}`, or leave them out")
    if (kind := group.partition(".")[0]) in TARGETS and group != kind:
        raise ConfigError(f"`{key}`: `{group}` has no option `{last}`; `+{key}=...` adds an argument of its class")
    if group in TARGETS:
        raise ConfigError(f"`{key}.*` are options of `{group}={last}` only: give `{group}={last}`, or leave them out")
    if owners := [name for name in REGISTRIES.get(group, ()) if last in own_names(group, name)]:
        choices = " or ".join(f"`{group}={name}`" for name in owners)
        raise ConfigError(f"`{key}` is an option of {choices} only: give {choices}, or leave it out")


def check_not_of_script(config: Config) -> None:
    """Check that no choice was registered by the program itself, for trainings whose ranks are other processes.

    Raises:
        ConfigError: one was.
    """
    entries = [(group, REGISTRIES[group][get_option(config, f"{group}.{REGISTRIES[group].key}")]) for group in CHOSEN]
    entries += [(name, NAMES[name][get_option(config, name)]) for name in NAMES]
    entries += [(EVALUATIONS.group, EVALUATIONS[name]) for name in config.evaluation.metrics or ()]
    for group, entry in entries:
        if entry.source == "__main__":
            raise ConfigError(
                f"`{group}={entry.name}` is registered by the program itself, and `trainer.devices` are processes that"
                " do not know it: register it in a file and give `plugins=[./file.py]`"
            )


def check_ranges(config: Config) -> None:
    """Check the range of every option.

    Raises:
        ConfigError: names the option, its value and the allowed values.
    """
    for name, field in iterate_options(config):
        value = get_option(config, name)
        if problem := _out_of_range(value, field.metadata):
            raise ConfigError(f"`{name}={value}` is out of range: {problem}")
        if name in NAMES:
            NAMES[name][value]  # raises where it is not registered
    tokens = config.data.block_tokens
    if tokens != "auto" and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        raise ConfigError(f"`data.block_tokens={tokens}` is out of range: it must be auto or an integer of at least 1")
    check_trainer(config)


def get_option(config: Config, name: str) -> Any:
    """Return the value of an option by its dotted name."""
    value: Any = config
    for part in name.split("."):
        value = value[part] if isinstance(value, Mapping) else getattr(value, part)
    return value


def check_evaluations(given: Any, plugins: Sequence[str] = ()) -> dict[str, dict[str, Any]] | None:
    """Return all options of the evaluations that `evaluation.metrics` names, by the names; None for none.

    Args:
        given: a list of names, or options by name.
        plugins: the plug-ins that a run was made with, for the message.

    Raises:
        ConfigError: nothing is registered by a name, or an option is unknown, of the wrong type or out of range.
    """
    where = EVALUATIONS.group
    if not given:
        return None
    if not isinstance(given, list | Mapping):
        raise ConfigError(f"`{where}={given}` must be a list of names, [name], or have their options, {{name: {{}}}}")
    found: dict[str, dict[str, Any]] = {}
    for name in given:
        entry = registered(EVALUATIONS, name, plugins)
        if entry.is_built_in:
            raise ConfigError(f"`{where}={name}`: it needs sets, give them as `evaluation.{name}=[...]`")
        own = given[name] if isinstance(given, Mapping) else None
        if own is not None and not isinstance(own, Mapping):
            raise ConfigError(f"`{where}.{name}={own}` must be a mapping of its options, {{option: value}}")
        found[name] = check_own(f"{where}.{name}", entry, own or {})
    return found


def check_own(where: str, entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of an entry's own, those that are not given with their defaults.

    Raises:
        ConfigError: an option is unknown, of the wrong type or out of range.
    """
    try:
        options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(entry.options), given))
    except (OmegaConfBaseException, ValueError) as error:
        key = getattr(error, "full_key", None) or ""
        raise ConfigError(f"`{where}.{key}`: {str(error).splitlines()[0]}") from None
    for field in dataclasses.fields(entry.options):
        if problem := _out_of_range(value := getattr(options, field.name), field.metadata):
            raise ConfigError(f"`{where}.{field.name}={value}` is out of range: {problem}")
    return dataclasses.asdict(typing.cast(Any, options))


def registered(registry: Registry, name: str, plugins: Sequence[str] = ()) -> Any:
    """Return what a name stands for.

    Raises:
        ConfigError: nothing is registered by it; for a run's config the message names the plug-ins it was made with.
    """
    loaded = plugin_modules()
    missing = [plugin for plugin in plugins if (Path(plugin).stem if plugin.endswith(".py") else plugin) not in loaded]
    if name not in registry and missing:
        raise ConfigError(
            f"`{registry.group}={name}` is not registered: it was made with the plug-ins {', '.join(missing)};"
            f" name them again, `plugins=[{','.join(missing)}]`, if you trust them"
        )
    return registry[name]


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
    if not isinstance(mapping, DictConfig):
        mapping = _as_literals(mapping)
    try:
        kinds = map(config_class, CHOSEN.values(), CHOSEN, _chosen_names(mapping))
        merged = OmegaConf.merge(_schema(*kinds), mapping)  # into a copy
        config = typing.cast(Config, OmegaConf.to_object(merged))
        if mapping.get("logger", {}) is None:
            config.logger = {}
        elif "logger" not in mapping:
            config.logger = Config().logger
        config.logger = _check_loggers(config.logger)
        config.callbacks = config.callbacks or {}
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        if "not in" in str(error):
            check_names([key])
            check_owner(key)
        raise ConfigError(f"`{key}`: {str(error).splitlines()[0]}") from None
    check_ranges(config)
    config.evaluation.metrics = check_evaluations(config.evaluation.metrics, config.plugins)
    return config


def _as_literals(value: Any) -> Any:
    """Return plain values in which OmegaConf reads no interpolation: `${` stands for itself."""
    if isinstance(value, Mapping):
        return {name: _as_literals(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_literals(inner) for inner in value]
    if isinstance(value, str) and "${" in value:
        return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + "\\${", value)
    return value


def _check_loggers(loggers: Any) -> dict[str, Any]:
    """Return the loggers with all their options; what has a `_target_` is checked when it is made."""
    if not isinstance(loggers, Mapping):
        raise ConfigError(
            f"`logger={loggers}` must be a mapping, {{name: options}}: logger=[wandb,csv] chooses by name"
        )
    checked: dict[str, Any] = {}
    for name, options in loggers.items():
        if options is None and f"logger.{name}" not in RENAMED:  # left out
            continue
        if isinstance(options, Mapping) and "_target_" in options:
            checked[name] = options
        elif name in LOGGERS:
            if not isinstance(options, Mapping):
                raise ConfigError(
                    f"`logger.{name}={options}` must be a mapping of its options, or null to leave it out"
                )
            typed = OmegaConf.merge(
                {"logger": {name: OmegaConf.structured(LOGGERS[name])}}, {"logger": {name: options}}
            )
            checked[name] = dataclasses.asdict(typing.cast(Any, OmegaConf.to_object(typed.logger[name])))
        elif f"logger.{name}" in RENAMED:
            check_names([f"logger.{name}"])
        else:
            raise ConfigError(
                f"`logger.{name}` needs a `_target_`, the class of a logger; by name there are {', '.join(LOGGERS)}"
            )
    return checked


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
        inner = mapping
        for part in group.split("."):
            inner = inner.get(part) if isinstance(inner, Mapping | DictConfig) else None
        name = inner.get(key, default) if isinstance(inner, Mapping | DictConfig) else default
        names.append(registered(REGISTRIES[group], name, [str(plugin) for plugin in mapping.get("plugins") or ()]).name)
    return tuple(names)


@functools.cache
def _schema(*kinds: type) -> DictConfig:
    """Return the schema for these classes of the groups of `CHOSEN`, cached: building it takes as long as the rest."""
    config = Config(logger={})
    for group, kind in zip(CHOSEN, kinds, strict=True):
        *path, last = group.split(".")
        setattr(functools.reduce(getattr, path, config), last, kind())
    return OmegaConf.structured(config)


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
    """Refuse all but plain values; what stands for a value that is missing would pass the schema."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ConfigError(f"{where}: {key!r} is no name of an option")
            _check_plain(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _check_plain(inner, where)
    elif isinstance(value, str):
        if value == "???":
            raise ConfigError(f"{where}: {value!r} stands for another value, which a run's config may not")
    elif not isinstance(value, int | float | None):
        raise ConfigError(f"{where}: {value!r} is of a type that no option has")
