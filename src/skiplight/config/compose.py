"""Compose a run's options from conf/ and the overrides of a command line, by Hydra."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skiplight.config import conf_dir
from skiplight.config.schema import CHOSEN, MAPPINGS, Config, chosen
from skiplight.config.validate import check_names, check_owner, from_mapping
from skiplight.errors import ConfigError
from skiplight.registry import REGISTRIES, load_plugins


def compose(overrides: Sequence[str]) -> Config:
    """Return the checked options of conf/ with these Hydra overrides.

    Raises:
        ConfigError: an override cannot be parsed, or names an unknown option or value.
    """
    overrides = choose_groups(overrides)
    load_plugins(named_plugins(overrides))
    check_overrides(overrides)
    register_schema()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra_compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        # Hydra appends its search path to the message, OmegaConf the names of our classes.
        reason = str(error.__cause__ or error).partition("Config search path")[0].partition("full_key")[0]
        key = getattr(error.__cause__, "full_key", None)
        if key and "not in struct" in reason:
            check_owner(key)
        raise ConfigError((f"`{key}`: " if key else "") + " ".join(reason.split())) from None
    return from_mapping(composed)


def register_schema() -> None:
    """Register the schema with Hydra, and a choice of its group for what plug-ins have registered."""
    store = ConfigStore.instance()
    # Groups whose options depend on a registered name are checked by `from_mapping`, since Hydra knows one type only.
    schema = OmegaConf.structured(Config)
    node: dict[Any, Any] = {name: schema._get_node(name) for name in schema}
    for group in CHOSEN:
        outer, _, inner = group.partition(".")
        node[outer] = {**dataclasses.asdict(getattr(Config(), outer)), inner: {}} if inner else {}
    store.store(name="schema", node=OmegaConf.create(node))
    for group, registry in REGISTRIES.items():
        for name in registry:
            if not _is_in_conf(group, name):
                store.store(group=_path(group), name=name, node=dataclasses.asdict(chosen(group, name)))


def _path(group: str) -> str:
    """The path of a group in conf/, which Hydra calls it by: `optim/schedule` for `optim.schedule`."""
    return group.replace(".", "/")


def _is_in_conf(group: str, name: str) -> bool:
    return (conf_dir() / _path(group) / f"{name}.yaml").exists()


def choose_groups(overrides: Sequence[str]) -> list[str]:
    """Return the overrides as Hydra needs them.

    `noise.name=uniform` becomes `noise=uniform`, which chooses the options of the name too, and `optim.schedule=cosine`
    becomes `optim/schedule=cosine`. An entry of a mapping, `optim.args.momentum=0.9`, is added to it. Names of
    evaluations, which Hydra does not know, are given as it takes them; see `_name_evaluations`.
    """
    prefixes = {f"{group}.{REGISTRIES[group].key}=": f"{_path(group)}=" for group in CHOSEN}
    prefixes |= {f"{group}=": f"{_path(group)}=" for group in CHOSEN if "." in group}
    prefixes |= {f"{mapping}.": f"++{mapping}." for mapping in MAPPINGS}
    found = []
    for override in overrides:
        prefix = next((prefix for prefix in prefixes if override.startswith(prefix)), "")
        override = prefixes[prefix] + override[len(prefix) :] if prefix else override
        found.append(_name_evaluations(override) if override.startswith("evaluation.metrics") else override)
    return found


def _name_evaluations(override: str) -> str:
    """Return `evaluation.metrics=[a,b]` as a mapping, and `evaluation.metrics.a.option=1` with Hydra's `++`."""
    if override.startswith("evaluation.metrics."):
        return f"++{override}"
    with contextlib.suppress(HydraException):
        names = OverridesParser.create().parse_override(override).value()
        if isinstance(names, list):
            return f"evaluation.metrics={{{', '.join(f'{name}: {{}}' for name in names)}}}"
    return override


def named_plugins(overrides: Sequence[str]) -> list[str]:
    """Return the plug-ins that an override `plugins=[...]` names.

    Raises:
        ConfigError: it is not a list.
    """
    for override in overrides:
        if override.startswith("plugins="):
            value = OverridesParser.create().parse_override(override).value()
            if not isinstance(value, list):
                raise ConfigError(f"`{override}` must be a list: give plugins=[module,./file.py]")
            return [str(name) for name in value]
    return []


def check_overrides(overrides: Sequence[str]) -> None:
    """Check that overrides can be parsed and name existing options or groups.

    Raises:
        ConfigError: for the first override that does not.
    """
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()} | set(REGISTRIES)
    parser = OverridesParser.create()
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(f"`{override}` is not an option of `skiplight train`: give options as name=value")
        try:
            parsed = parser.parse_override(override)
        except HydraException:
            raise ConfigError(
                f"`{override}` cannot be parsed: give options as name=value, and quote a value with special characters "
                "for Hydra as well as for the shell, as in \"data.path='texts/ü*.txt'\""
            ) from None
        name = parsed.key_or_group.replace("/", ".") if not parsed.key_or_group.startswith("hydra") else "hydra"
        if name in ("data", "data.source") and parsed.value() == "planted":
            raise ConfigError(f"`{override}` no longer exists: give `{name}=synthetic_sessions`")
        value = parsed.value()
        if name in REGISTRIES and isinstance(value, str) and not _is_in_conf(name, value):
            REGISTRIES[name][value]  # raises where it is not registered
        if name not in groups and not name.startswith("hydra"):
            check_names([name])


def quote_value(text: str) -> str:
    """Quote a text for an override, whatever characters it contains."""
    # Only backslashes before a quote need an escape.
    return "'" + re.sub(r"(\\+)(?='|$)", r"\1\1", text).replace("'", r"\'") + "'"
