"""Composes a run's options from conf/ and the overrides of a command line, by Hydra."""

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
    """The checked options that conf/ and these Hydra overrides give.

    Raises:
        ConfigError: an override cannot be parsed, or names an option or a value that there is not.
    """
    check_overrides(overrides)
    register_schema()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            composed = hydra_compose("config", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        # Hydra's message goes on with its search path, OmegaConf's with the names of our classes.
        reason = str(error.__cause__ or error).partition("Config search path")[0].partition("full_key")[0]
        key = getattr(error.__cause__, "full_key", None)
        raise ConfigError((f"`{key}`: " if key else "") + " ".join(reason.split())) from None
    return from_mapping(composed)


def register_schema() -> None:
    """Makes the schema known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Config)


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuses what is no override, or names an option or group that there is not.

    Raises:
        ConfigError: for the first such one.
    """
    groups = {path.name for path in conf_dir().iterdir() if path.is_dir()}
    parser = OverridesParser.create()
    for override in overrides:
        if override.startswith("-"):
            raise ConfigError(f"`{override}` is no option of `skiplight train`: options are given as name=value")
        try:
            parsed = parser.parse_override(override)
        except HydraException:
            raise ConfigError(
                f"`{override}` cannot be read: options are given as name=value, and a value with special characters is "
                "quoted for Hydra as well as for the shell, as in \"data.path='texts/ü*.txt'\""
            ) from None
        name = parsed.key_or_group
        if name in ("data", "data.source") and parsed.value() == "planted":
            raise ConfigError(f"`{override}` is no choice any more: give `{name}=synthetic_sessions`")
        if name not in groups and not name.startswith("hydra"):
            check_names([name])


def quote_value(text: str) -> str:
    """Return a text as it stands for itself in an override, whatever characters it has."""
    # A backslash is itself, but for those before a quote.
    return "'" + re.sub(r"(\\+)(?='|$)", r"\1\1", text).replace("'", r"\'") + "'"
