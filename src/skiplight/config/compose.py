"""Compose a run's options from conf/ and the overrides of a command line, by Hydra."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from skiplight.config import conf_dir
from skiplight.config.schema import Config
from skiplight.config.validate import check_names, from_mapping
from skiplight.errors import ConfigError


def compose(overrides: Sequence[str]) -> Config:
    """Return the checked options of conf/ with these Hydra overrides.

    Raises:
        ConfigError: an override cannot be parsed, or names an unknown option or value.
    """
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
        raise ConfigError((f"`{key}`: " if key else "") + " ".join(reason.split())) from None
    return from_mapping(composed)


def register_schema() -> None:
    """Register the schema with Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)


def check_overrides(overrides: Sequence[str]) -> None:
    """Check that overrides can be parsed and name existing options or groups.

    Raises:
        ConfigError: for the first override that does not.
    """
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
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
        name = parsed.key_or_group
        if name in ("data", "data.source") and parsed.value() == "planted":
            raise ConfigError(f"`{override}` no longer exists: give `{name}=synthetic_sessions`")
        if name not in groups and not name.startswith("hydra"):
            check_names([name])


def quote_value(text: str) -> str:
    """Quote a text for an override, whatever characters it contains."""
    # Only backslashes before a quote need an escape.
    return "'" + re.sub(r"(\\+)(?='|$)", r"\1\1", text).replace("'", r"\'") + "'"
