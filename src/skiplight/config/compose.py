"""Compose a run's options from conf/ and the overrides of a command line, by Hydra."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from skiplight.config import conf_dir
from skiplight.config.schema import CHOSEN, Config, chosen
from skiplight.config.validate import MAX_DEPTH, check_names, check_owner, from_mapping
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
    except (HydraException, OmegaConfBaseException, ValueError) as error:
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
    node = {name: {} if name in CHOSEN else schema._get_node(name) for name in schema}
    store.store(name="schema", node=OmegaConf.create(node))
    for group, registry in REGISTRIES.items():
        for name in registry:
            if not (conf_dir() / group / f"{name}.yaml").exists():
                store.store(group=group, name=name, node=dataclasses.asdict(chosen(group, name)))


def choose_groups(overrides: Sequence[str]) -> list[str]:
    """Return the overrides with `noise.name=uniform` as `noise=uniform`, which chooses the options of the name too."""
    prefixes = {f"{group}.{REGISTRIES[group].key}=": f"{group}=" for group in CHOSEN}
    found = []
    for override in overrides:
        prefix = next((prefix for prefix in prefixes if override.startswith(prefix)), "")
        found.append(prefixes[prefix] + override[len(prefix) :] if prefix else override)
    return found


def named_plugins(overrides: Sequence[str]) -> list[str]:
    """Return the plug-ins that an override `plugins=[...]` names.

    Raises:
        ConfigError: it is not a list.
    """
    for override in overrides:
        if override.startswith("plugins="):
            _refuse_nested(override)
            value = OverridesParser.create().parse_override(override).value()
            if not isinstance(value, list):
                raise ConfigError(f"`{override}` must be a list: give plugins=[module,./file.py]")
            return [str(name) for name in value]
    return []


def _refuse_nested(override: str) -> None:
    """Raise a `ConfigError` if an override is nested deeper than its parser takes."""
    if override.count("[") + override.count("{") > MAX_DEPTH:
        depth = list(itertools.accumulate((c in "[{") - (c in "]}") for c in override))
        if max(depth) > MAX_DEPTH:
            raise ConfigError(f"`{override[:40]}...` is nested more than {MAX_DEPTH} deep")


def check_overrides(overrides: Sequence[str]) -> None:
    """Check that overrides can be parsed and name existing options or groups.

    Raises:
        ConfigError: for the first override that does not.
    """
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()} | set(REGISTRIES)
    parser = OverridesParser.create()
    for override in overrides:
        _refuse_nested(override)
        if override.startswith("-"):
            raise ConfigError(f"`{override}` is not an option of `skiplight train`: give options as name=value")
        try:
            parsed = parser.parse_override(override)
        except HydraException:
            raise ConfigError(
                f"`{override}` cannot be parsed: give options as name=value, and quote a value with special characters "
                "for Hydra as well as for the shell, as in \"data.path='texts/ü*.txt'\""
            ) from None
        name = parsed.key_or_group
        if name in ("data", "data.source") and parsed.value() == "planted":
            raise ConfigError(f"`{override}` no longer exists: give `{name}=synthetic_sessions`")
        value = parsed.value()
        if name in REGISTRIES and isinstance(value, str) and not (conf_dir() / name / f"{value}.yaml").exists():
            REGISTRIES[name][value]  # raises where it is not registered
        if name not in groups and not name.startswith("hydra"):
            check_names([name])


def quote_value(text: str) -> str:
    """Quote a text for an override, whatever characters it contains."""
    # Only backslashes before a quote need an escape.
    return "'" + re.sub(r"(\\+)(?='|$)", r"\1\1", text).replace("'", r"\'") + "'"
